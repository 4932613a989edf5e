-- Signals as values to wait for; sys.lua offers them to the rest of the program.
return require "core.signal"
