local redis = (function()
  local function checked(run, name, ...)
    local word = type(name) == "string" and string.upper(name) or ""
    local refused = string.find(" REFUSED ", " " .. word .. " ", 1, true)
      or string.find(word, ".", 1, true) and string.sub(word, 1, 5) ~= "JSON."
    local option = ({COPY = "DB", XREAD = "BLOCK", XREADGROUP = "BLOCK"})[word]
    for i = word == "COPY" and 3 or 1, option and select("#", ...) or 0 do
      local argument = string.upper(tostring((select(i, ...))))
      if argument == "STREAMS" then break end
      refused = refused or argument == option
    end
    if word == "FLUSHALL" then name = "FLUSHDB" end
    return run(refused and word .. " is not available over REST" or name, ...)
  end
  local function later(name)
    return function(...) return redis[name](...) end
  end
  return {
    call = function(...) return checked(redis.call, ...) end,
    pcall = function(...) return checked(redis.pcall, ...) end,
    error_reply = later("error_reply"),
    status_reply = later("status_reply"),
    sha1hex = later("sha1hex"),
    setresp = later("setresp"),
    log = later("log"),
    LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
    replicate_commands = function() return true end,
    register_function = function(definition, ...)
      local kept = {}
      for i = 1, #(definition.flags or kept) do
        local flag = definition.flags[i]
        if flag ~= "allow-key-locking" then kept[#kept + 1] = flag end
      end
      if definition.flags then definition.flags = kept end
      return redis.register_function(definition, ...)
    end,
  }
end)()
local _G, loadstring, load, getfenv, setfenv, newproxy
