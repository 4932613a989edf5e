-- The keys of each built-in kind of notifiers.
local s = require "base.schema"
local secret = require "config.secret"
local shapes = require "config.shapes"

local is, url = shapes.is, shapes.url

local function webhook_url(value, at)
  if type(value) ~= "string" then return value end
  if value:find("^https://hooks%.slack%.com/") then
    return at:fault("is a secret: whoever knows this URL can post", 'url = { env = "SLACK_URL" }')
  end
  return value
end

local hook_fields = {
  { "url", s.either({ { is "table", secret.shape() }, { is "string", url() } }, {
    doc = "Where to post. A URL that holds a token is a secret: name its variable or file.",
    required = true, example = '{ env = "HOOK_URL" }', verify = webhook_url,
  }) },
  { "token", secret.shape { doc = "Sent as a bearer token." } },
}

return {
  slack = s.record(hook_fields, { doc = "A Slack-compatible incoming webhook." }),
  webhook = s.record(hook_fields, { doc = "Any service that takes a JSON event by POST." }),
}
