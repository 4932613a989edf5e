-- Text from outside made safe to show: names, subjects, answers of servers.
--
-- Attackers write commit messages, branch names and error bodies. What reaches a terminal, a log line or a
-- message to people holds no control bytes, no broken UTF-8 and no marks that turn the reading direction
-- around.

local M = {}

-- C1 controls, line and paragraph separators, the bidirectional marks of Trojan Source (Unicode TR 36), annotations
-- and invisible tags. Joiners are part of ordinary text.
---@param code integer
---@return boolean
function M.foul(code)
  return code < 32 or (code >= 0x7f and code < 0xa0) or code == 0x061c or code == 0x200e or code == 0x200f
    or (code >= 0x2028 and code <= 0x202e) or (code >= 0x2060 and code <= 0x206f) or code == 0xfeff
    or (code >= 0xfff9 and code <= 0xfffb) or (code >= 0xe0000 and code <= 0xe0fff)
end

---Whether a text is UTF-8 without control characters and direction marks.
---@param text string
---@return boolean
function M.printable(text)
  if not text:find "[\0-\31\127-\255]" then return true end
  if text:find "[\0-\31\127]" or not utf8.len(text) then return false end
  for _, code in utf8.codes(text) do
    if M.foul(code) then return false end
  end
  return true
end

---A commit or a digest as people read it.
---@param id? string
---@return string
---@nodiscard
function M.short(id)
  if not id then return "?" end
  return id:find("^sha256:") and id:sub(1, 19) or id:sub(1, 7)
end

---Makes one printable line: what is foul becomes a space, runs of spaces become one, the rest is cut.
---@param text string
---@param max? integer longest result in bytes, 200 by default; a cut text ends in "..."
---@return string
---@nodiscard
function M.clean(text, max)
  max = max or 200
  text = text:sub(1, max * 4)
  if not M.printable(text) then
    local out, at = {}, 1
    while at <= #text do
      local ok, code = pcall(utf8.codepoint, text, at)
      if ok and not M.foul(code) then
        out[#out + 1] = utf8.char(code)
        at = at + #out[#out]
      else
        out[#out + 1] = " "
        at = at + (ok and #utf8.char(code) or 1)
      end
    end
    text = table.concat(out)
  end
  text = text:gsub("  +", " "):gsub("^ ", ""):gsub(" $", "")
  if #text <= max then return text end
  local cut = max - 3
  while cut > 0 and text:byte(cut + 1) & 0xc0 == 0x80 do cut = cut - 1 end
  return text:sub(1, cut) .. "..."
end

local escapes = setmetatable({}, { __index = function(self, char)
  local code = utf8.len(char) == 1 and utf8.codepoint(char)
  local escape = false ---@type string|false
  if code and M.foul(code) then
    if code < 0x10000 then
      escape = ("\\u%04x"):format(code)
    else
      code = code - 0x10000
      escape = ("\\u%04x\\u%04x"):format(0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff))
    end
    self[char] = escape -- few characters are foul; all others are not kept
  end
  return escape
end })

---JSON for people's eyes, too: the same value, with escapes for what would act on a terminal or stay unseen.
---@param json string Encoded JSON.
---@return string
function M.visible_json(json)
  if not json:find "[\127-\255]" then return json end
  return (json:gsub("\127", "\\u007f"):gsub("[\xC2-\xF4][\x80-\xBF]+", escapes))
end

---The text of a file that people wrote, without the mark that some editors put in front of it.
---@param bytes string
---@return string? text
---@return string? wrong In words: it is not UTF-8.
function M.of_file(bytes)
  if bytes:find "^\xFF\xFE" or bytes:find "^\xFE\xFF" then
    return nil, "the file is UTF-16: save it as UTF-8"
  end
  return (bytes:gsub("^\xEF\xBB\xBF", ""))
end

---A URL without the name and password that may stand in it.
---@param url string
---@return string
function M.without_credentials(url) return (url:gsub("^(%a[%w+.-]*://)[^/@]*@", "%1")) end

---The line that a message of Lua begins with, and the rest of it. Lua shortens the names of files far away.
---@param message string "config/moontide.lua:3: message"
---@param file string Only its lines count.
---@return integer? line
---@return string rest
function M.position(message, file)
  local place, line, rest = message:match "^([^\n]-):(%d+): (.*)$"
  local tail = place and place:match "^%.%.%.(.*)$"
  if not rest or place ~= file and not (tail and file:sub(-#tail) == tail) then return nil, message end
  return math.tointeger(tonumber(line)), rest
end

return M
