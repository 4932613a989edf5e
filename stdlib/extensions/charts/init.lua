-- Charts: apps that follow chart repositories instead of a git repository, and charts that a release publishes.
local extension = require "extension"

return extension {}
