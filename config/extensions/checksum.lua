-- A source: a file on an HTTP server that says the SHA-256 of something, such as SHA256SUMS or site.tar.gz.sha256.
--
--     apps = { site = { checksum = { url = "https://build.example.com/site.sha256" }, environments = { ... } } }
--
-- Its policy (here the whole of scripts/newest.lua) releases what it says, whenever it says something new:
--
--     return policy {
--       watch = function(place)
--         local file = place:found()
--         local failed = place:failed(file.digest)
--         if failed then return nil, ("run %d tried it and %s"):format(failed.id, failed.how) end
--         return { key = file.digest, title = file.version, file = file }
--       end,
--       run = function(run, change) run:release(change.file, { version = change.file.version }) end,
--     }
local errors, extension, http = require "errors", require "extension", require "http"

local function poll(app)
  local part = app.checksum
  local answer, err = http.get(part.url, { timeout = 30, max_body = 65536 })
  if not answer then return nil, err end
  local about = { op = "checksum", target = part.url, status = answer.status }
  if answer.status ~= 200 then return errors.fail("status", ("it answers %d"):format(answer.status), about) end
  for line in (answer.body or ""):gmatch "[^\r\n]+" do
    local hex, name = line:match "^(%x+)%s*%*?(.*)$"
    if hex and #hex == 64 and (not part.file or part.file == name) then
      local digest = "sha256:" .. hex:lower()
      -- A release has a digest, and an image: a name that people can tell it by.
      return { digest = digest, image = ("%s@%s"):format(part.url, digest), version = digest:sub(8, 19) }
    end
  end
  return errors.fail("not_found", part.file and "it does not say the checksum of " .. part.file
    or "it holds no SHA-256 checksum", about)
end

return extension {
  source = {
    checksum = {
      doc = "A file that says a checksum.",
      key = extension.record("Where a checksum is said, instead of source and image.", {
        url = extension.url("Address of the file.", { required = true }),
        file = extension.text "Name in it whose checksum counts. Default: the first.",
      }),
      poll = poll,
    },
  },
}
