-- Metrics as Prometheus reads them (text exposition format 0.0.4).

local M = {}

M.CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

-- Branches and tags never become labels; this only keeps a mistake from flooding the scraper.
local MOST_SAMPLES = 20000

local function escape_label(text)
  return (tostring(text):gsub('[\\"\n]', { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }))
end

local function number(value)
  if math.type(value) == "integer" then return ("%d"):format(value) end
  if value ~= value then return "NaN" end
  if value == math.huge then return "+Inf" end
  if value == -math.huge then return "-Inf" end
  if value == math.floor(value) and math.abs(value) < 2 ^ 53 then return ("%d"):format(value) end
  return ("%.17g"):format(value)
end

---Writes metrics.
---@param metrics Metric[]
---@return string
function M.text(metrics)
  local out, samples = {}, 0
  for _, metric in ipairs(metrics) do
    out[#out + 1] = ("# HELP %s %s"):format(metric.name, (metric.help:gsub("\\", "\\\\"):gsub("\n", "\\n")))
    out[#out + 1] = ("# TYPE %s %s"):format(metric.name, metric.type)
    for _, sample in ipairs(metric.samples) do
      samples = samples + 1
      if samples > MOST_SAMPLES then break end
      local names, labels = {}, {}
      for name in pairs(sample.labels or {}) do names[#names + 1] = name end
      table.sort(names)
      for i, name in ipairs(names) do labels[i] = ('%s="%s"'):format(name, escape_label(sample.labels[name])) end
      out[#out + 1] = ("%s%s %s"):format(metric.name, #labels > 0 and "{" .. table.concat(labels, ",") .. "}" or "",
        number(sample.value))
    end
  end
  return table.concat(out, "\n") .. "\n"
end

return M
