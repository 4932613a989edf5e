-- Recognises transient network errors in the output of other programs: engines, builders, helm, git.
--
-- Those are written in Go, on libcurl or on the C library, each of which words network failures in a few ways of its
-- own. The text is all there is: an exit status says nothing of the reason.
local M = {}

local WORDS <const> = {
  { "dns", "no such host", "server misbehaving", "[Cc]ould not resolve host", "[Nn]ame or service not known",
    "[Tt]emporary failure in name resolution" },
  { "refused", "[Cc]onnection refused", "[Tt]he connection to the server %S+ was refused" },
  { "unreachable", "[Nn]o route to host", "[Nn]etwork is unreachable", "[Nn]etwork is down", "[Hh]ost is down",
    "[Kk]ubernetes cluster unreachable", "[Uu]nable to connect to the server",
    "couldn't get current server API group list" },
  { "timeout", "i/o timeout", "TLS handshake timeout", "Client%.Timeout exceeded", "[Cc]onnection timed out",
    "[Oo]peration timed out", "504 Gateway Time%-?[Oo]ut" },
  { "reset", "[Cc]onnection reset by peer", "write: broken pipe", '": EOF%f[^%w]', '": unexpected EOF' },
  { "rate_limited", "[Tt]oo [Mm]any [Rr]equests", "toomanyrequests" },
  { "busy", "503 Service Unavailable", "502 Bad Gateway", "500 Internal Server Error" },
  { "full", "[Nn]o space left on device" },
}

---The code of what a program says, when that is a failure of the network or a full disk.
---@param said string
---@return string? code
function M.code(said)
  for _, row in ipairs(WORDS) do
    for i = 2, #row do
      if said:find(row[i]) then return row[1] end
    end
  end
end

return M
