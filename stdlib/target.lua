-- Targets: where an image runs. Each kind answers current, apply, wait and settle, with what the target itself reports.
local M = {}

---@class Target
---@field current fun(self): {digest?: string, commit?: string, version?: string, image?: string, state?: string, healthy?: boolean, release?: integer}?, Err? Nothing runs: nil without an error.
---@field apply fun(self, request: {image: string, digest: string, commit?: string, version?: string, release: integer, hooks?: table}): true?, Err? Accepted, not yet proved; asking again changes nothing. What ran before is kept.
---@field wait fun(self, request: {digest: string, release: integer, timeout?: number, hooks?: table}): true?, Err? Until it runs; unhealthy with the last words of what does not.
---@field settle fun(self, request: {digest: string, release: integer}): true?, Err? It proved itself: what is kept beyond the last one may go.

---Opens the target of an environment.
---@param environment EnvironmentConfig
---@param cfg Config
---@return Target
function M.open(environment, cfg)
  return require("target." .. environment.target.kind).open(environment, cfg)
end

return M
