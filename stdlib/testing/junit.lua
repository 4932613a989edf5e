-- Results as JUnit's XML, as CI servers read it: a suite for each file.
local lines, time = require "testing.lines", require "time"

local M = {}

local ESCAPES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&apos;" }

-- What testing/lines made has no control characters; XML has two more that are no characters.
local function escaped(text)
  return (text:gsub("[&<>\"']", ESCAPES):gsub("\239\191[\190\191]", "?"))
end

local function joined(list) return escaped(table.concat(list, "\n")) end

local function case(out, result, classname)
  out[#out + 1] = ('    <testcase classname="%s" name="%s" file="%s" time="%.3f"'):format(escaped(classname),
    escaped(result.name), escaped(lines.one(result.file)), result.seconds)
  local failure = result.failure
  if not failure then
    out[#out] = out[#out] .. "/>"
    return
  end
  local text = table.move(failure.message, 1, #failure.message, 1, {})
  if failure.where then text[#text + 1] = "at " .. failure.where end
  if failure.expected then text[#text + 1] = "expected: " .. table.concat(failure.expected, "\n") end
  if failure.got then text[#text + 1] = "got: " .. table.concat(failure.got, "\n") end
  out[#out] = out[#out] .. ">"
  out[#out + 1] = ('      <failure type="failure" message="%s">%s</failure>'):format(escaped(failure.message[1]),
    joined(text))
  if failure.story and #failure.story > 0 then
    out[#out + 1] = ("      <system-out>%s</system-out>"):format(joined(failure.story))
  end
  out[#out + 1] = "    </testcase>"
end

local function head(element, results, more)
  local failed, seconds = 0, 0
  for _, result in ipairs(results) do
    if not result.ok then failed = failed + 1 end
    seconds = seconds + result.seconds
  end
  return ('<%s tests="%d" failures="%d" errors="0" skipped="0" time="%.3f"%s>'):format(element, #results, failed,
    seconds, more)
end

---Writes results as one document.
---@param results TestResult[]
---@return string xml
function M.of(results)
  local files, of_file = {}, {}
  for _, result in ipairs(results) do
    if not of_file[result.file] then
      of_file[result.file] = {}
      files[#files + 1] = result.file
    end
    table.insert(of_file[result.file], result)
  end
  local out = { '<?xml version="1.0" encoding="UTF-8"?>', head("testsuites", results, ' name="moontide test"') }
  for _, file in ipairs(files) do
    local shown = lines.one(file)
    local classname = shown:gsub("%.lua$", ""):gsub("^%./", ""):gsub("/", ".")
    out[#out + 1] = "  " .. head("testsuite", of_file[file], (' name="%s" timestamp="%s"'):format(escaped(shown),
      (time.iso(time.now()):gsub("%.%d+", ""):gsub("Z$", ""))))
    for _, result in ipairs(of_file[file]) do case(out, result, classname) end
    out[#out + 1] = "  </testsuite>"
  end
  out[#out + 1] = "</testsuites>\n"
  return table.concat(out, "\n")
end

return M
