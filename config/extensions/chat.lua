-- A kind of notifiers: a room of a chat service that takes messages by POST, with a token of its own header.
--
--     notify = { team = { kind = "chat", url = "https://chat.example.com/api/rooms", room = "deploys",
--       token = { env = "CHAT_TOKEN" } } }
local errors, extension, http, json = require "errors", require "extension", require "http", require "json"

local SIGNS <const> = { info = "✔", warn = "!", error = "✘" }

local function send(channel, message, name)
  local token, err = channel.token:reveal()
  if not token then return nil, err end
  local answer
  answer, err = http.post(channel.url .. "/" .. http.escape(channel.room), json.encode {
    text = ("%s %s: %s"):format(SIGNS[message.level], message.title, message.text),
  }, { headers = { ["Content-Type"] = "application/json", ["X-Token"] = token }, timeout = 10 })
  if not answer then return nil, err end
  if answer.status < 300 then return true end
  return errors.fail("status", ("%s was not told: status %d"):format(name, answer.status), { status = answer.status })
end

return extension {
  notifier = {
    chat = {
      doc = "A room of a chat service.",
      keys = {
        url = extension.url("Address of the service.", { required = true }),
        room = extension.text("Name of the room.", { required = true }),
        token = extension.secret("What the service knows us by.", { required = true }),
      },
      send = send,
    },
  },
}
