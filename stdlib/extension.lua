-- What an extension is written with: `return extension { target = { ... } }`, and the shapes of its keys.
--
-- Every shape takes first what the key means, for `moontide help config`. Options, which come last: `default`,
-- `required`, `example` (Lua source), `verify(value, at)`, which gives the value that counts or at:fault(message,
-- suggestion), and what each shape names. config/manual/extensions.md is the page for authors.
---@class ExtensionWords
---@overload fun(kinds: table): table
local M = {}

---@class Extension What one file adds. Each kind is a table from names to entries, or a list of entries with a `name`,
--- whose order counts. An entry may be a function that gives it when it is asked for.
---@field target? table<string, TargetKind>
---@field builder? table<string, BuilderKind>
---@field check? table<string, CheckKind>
---@field notifier? table<string, NotifierKind>
---@field source? table<string, SourceKind>
---@field finder? table<string, FinderKind>
---@field key? table<string, PartKind> Keys at the top of the configuration.
---@field app_key? table<string, PartKind> Keys of an app.
---@field word? table<string, WordKind>
---@field command? table<string, CommandKind>
---@field route? table<string, RouteKind> By "METHOD /path/:name".
---@field opener? table<string, OpenerKind> What world.NAME(what) opens.

---@class KindEntry
---@field name? string
---@field doc? string What it is, for `moontide help config`.
---@field keys? table<string, Shape>|SchemaField[]|Shape|fun(): table Its keys in the configuration.
---@field cross? function What no single key shows, as the kind has it.
---@field file? string Who registers it; set when it is read.
---@field shape? Shape Of its keys, made when it is first needed.
---@field further? SchemaField[] Likewise, for keys that stand beside those of others.
---@field key? Shape|fun(): Shape Of the key that has its name.
---@field [string] any What its kind has.

---@class TargetKind: KindEntry
---@field open fun(environment: EnvironmentConfig, world: World): Target?, Err?
---@field cross? fun(target: TargetConfig, environment: EnvironmentConfig, at: Cursor, cross: CrossCheck) Checks what no
--- single key shows.
---@field destroys? boolean Its targets have destroy().
---@field follows? boolean Another program rolls out its targets' releases.

---@class BuilderKind: KindEntry Its keys stand in `builder`, beside those of other kinds.
---@field build fun(request: BuildRequest): string?, Err? Builds an image, pushes it, and gives the digest.
---@field available? fun(cfg: Config): boolean?, Err?

---@class CheckKind: KindEntry A check has the key of its name and further ones.
---@field key Shape|fun(): Shape What the key of its name may be.
---@field attempt? fun(check: VerifyConfig, request: VerifyRequest, left: Seconds): true?, string? Tries once, within
--- the seconds that are left; else the reason why not. It is tried until it succeeds or its time is over.
---@field prove? fun(check: VerifyConfig, request: VerifyRequest, world: World): true?, Err? Called once, instead.
---@field within? Seconds Its time, where the configuration says nothing; 30.

---@class NotifierKind: KindEntry
---@field send fun(channel: NotifyConfig, message: Message, name: string): true?, Err? `name` is the channel's; texts
--- of the message hold no secrets.

---@class SourceKind: KindEntry What an app may follow instead of a git repository.
---@field key? Shape|fun(): Shape What `apps.APP.NAME` may be: an app that has it follows this source.
---@field poll? fun(app: AppConfig, world: World): any, Err?, Held? Looks at it. What it gives is plain data, which
--- policies read by place:found(); nil and an error: policies that ask for it fail, and the app is polled again.
---@field expire? fun(app: AppConfig, world: World) Makes the next poll ask anew: a person waits for it.
---@field resolve? fun(place: Place, what: string): {title: string, data: table}?, Err? What `moontide release APP ENV
--- WHAT` is: the data is the change that the policy's run gets.
---@field cross? fun(app: AppConfig, config: Config, at: Cursor)
---@field accepts? {doc: string, words: string[], rule: fun(text: string): any, Err?} Version policies of its own.
---@field observe? fun(journal: Journal, world: World, state: Seen, app: AppConfig) The program's own instead of poll.

---@class FinderKind: KindEntry What finds apps by itself while the host runs.
---@field key Shape|fun(): Shape Its key at the top of the configuration.
---@field policies fun(part: any): string[] Names of the policies of its apps.
---@field open fun(part: any, world: World): AppSource?, Err?
---@field cross? fun(part: any, config: Config, at: Cursor, cross: CrossCheck)
---@field expire? fun(world: World)
---@field tidy? fun(world: World)

---@class PartKind: KindEntry
---@field key Shape|fun(): Shape
---@field cross? fun(part: any, config: Config, at: Cursor) Of a key of apps, the first is the app.

---@class WordKind What policies may call: place:NAME(...) in watch, run:NAME(...) in run.
---@field place? fun(place: Place, ...): ...
---@field run? fun(run: Run, ...): ...
---@field plan? Planner|table<string, Planner> What the step of the word's name would do, for `moontide plan`; or of
--- several steps, by their names. It only reads. Without it a plan ends where the word is called.

---@class CommandKind: KindEntry, Command
---@field load? fun(): Command Instead of the rest: gives the command when it is used.

---@class RouteKind: KindEntry On the TCP port, for whoever has the API's token.
---@field handle fun(engine: Engine, request: serve.Request): serve.Answer
---@field open? boolean Needs no token.
---@field socket? boolean On the control socket instead, for operators.
---@field gate? fun(engine: Engine, request: serve.Request): serve.Answer? Refuses instead of the token's check.

---@class OpenerKind: KindEntry
---@field open fun(what: any, world: World): any, Err?
---@field reads? string[] Words of what it opens that only read: a plan has these, and no others.

local Extension = {}

---Whether a table is an extension's.
---@param value any
---@return boolean
function M.is(value) return getmetatable(value) == Extension end

local OPTIONS <const> = { "default", "required", "example", "verify", "min", "max", "multiline", "name", "what" }

-- The options of a shape; a wrong one raises at the line that called the shape.
local function options_of(doc, options)
  if type(doc) ~= "string" or doc == "" then error("a shape takes first what its key means, as a text", 3) end
  local all = { doc = doc }
  for key, value in pairs(options or {}) do
    if not require("base.tables").contains(OPTIONS, key) then
      local schema = require "base.schema"
      local hint = schema.meant(key, OPTIONS)
      error(("unknown option %s%s"):format(schema.quote(key), hint and " (" .. hint .. ")" or ""), 3)
    end
    all[key] = value
  end
  return all
end

---Text of one line. Options: min (1) and max (4096) bytes, multiline.
---@param doc string
---@param options? table
---@return Shape
function M.text(doc, options) return require("base.schema").text(options_of(doc, options)) end

---A whole number. Options: min, max.
---@param doc string
---@param options? table
---@return Shape
function M.integer(doc, options) return require("base.schema").integer(options_of(doc, options)) end

---true or false.
---@param doc string
---@param options? table
---@return Shape
function M.boolean(doc, options) return require("base.schema").boolean(options_of(doc, options)) end

---A duration ("90s", "1h30m", a number of seconds), given as seconds. Options: min, max (seconds).
---@param doc string
---@param options? table
---@return Shape
function M.duration(doc, options) return require("base.schema").duration(options_of(doc, options)) end

---One of a few words.
---@param doc string
---@param words string[]
---@param options? table
---@return Shape
function M.choice(doc, words, options) return require("base.schema").choice(words, options_of(doc, options)) end

---A list of values of one shape. Options: min, max items.
---@param doc string
---@param item Shape
---@param options? table
---@return Shape
function M.list(doc, item, options) return require("base.schema").list(item, options_of(doc, options)) end

---A table from names to values of one shape. Options: max entries.
---@param doc string
---@param item Shape
---@param options? table
---@return Shape
function M.map(doc, item, options)
  return require("base.schema").map(require("config.shapes").plain, item, options_of(doc, options))
end

---A table with known keys.
---@param doc string
---@param keys table<string, Shape>|SchemaField[]
---@param options? table
---@return Shape
function M.record(doc, keys, options)
  return require("base.schema").record(M.fields(keys), options_of(doc, options))
end

---A program and its arguments.
---@param doc string
---@param options? table
---@return Shape
function M.command(doc, options) return require("config.shapes").command(doc, options_of(doc, options)) end

---A file that must be there; a relative path starts at the configuration's folder. Given as an absolute path.
---@param doc string
---@param options? table
---@return Shape
function M.file(doc, options) return require("config.shapes").file(doc, options_of(doc, options)) end

---A folder, which need not be there yet. Given as an absolute path.
---@param doc string
---@param options? table
---@return Shape
function M.folder(doc, options) return require("config.shapes").folder_path(doc, options_of(doc, options)) end

---An http or https address without a password in it.
---@param doc string
---@param options? table
---@return Shape
function M.url(doc, options) return require("config.shapes").url(doc, options_of(doc, options)) end

---{ env = "NAME" } or { file = "/path" }, given as a Secret: secret:reveal() -> text, or nil and an error.
---@param doc string
---@param options? table
---@return Shape
function M.secret(doc, options) return require("config.secret").shape(options_of(doc, options)) end

---Keys in the order of the reference, from a table by name or a list of { name, shape }.
---@param keys table<string, Shape>|SchemaField[]
---@return SchemaField[]
function M.fields(keys)
  if keys[1] then return keys end
  local fields = {}
  for name, shape in pairs(keys) do fields[#fields + 1] = { name, shape } end
  table.sort(fields, function(a, b) return a[1] < b[1] end)
  return fields
end

return setmetatable(M, { __call = function(_, kinds)
  if type(kinds) ~= "table" then error("usage: extension { target = { ... } }", 2) end
  return setmetatable(kinds, Extension)
end }) --[[@as ExtensionWords]]
