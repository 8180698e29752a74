-- Runs the scripts of one fakeredis server, with the globals of Redis, which they cannot change, and
-- with a time limit. Returns a function to call after fakeredis has set its globals, a function that
-- runs a script, and two to call after each script.
local sha1hex, lift_limit, most_kilobytes = ...
local G, collectgarbage, error, floor, loadstring, next =
  _G, collectgarbage, error, math.floor, loadstring, next
local pcall, rawset, select, setfenv, setmetatable = pcall, rawset, select, setfenv, setmetatable
local clock, sethook, tostring, type, unpack = os.clock, debug.sethook, tostring, type, unpack
local protected = {}

local function refuse_change() error("Attempt to modify a readonly table", 2) end

local function protect(content, found)
  local table = setmetatable({}, {
    __index = found or content, __newindex = refuse_change, __metatable = false,
  })
  protected[table] = true
  return table
end

-- lupa cannot handle a lack of memory while it converts a result to Lua.
local function call_python(f)
  return function(...)
    if collectgarbage("count") > most_kilobytes then
      collectgarbage()
      if collectgarbage("count") > most_kilobytes then error("not enough memory", 2) end
    end
    return f(...)
  end
end

-- In Lua 5.1 a long pattern overflows the stack of C, and a large range in unpack that of Lua.
for _, name in ipairs({"find", "gmatch", "gsub", "match"}) do
  local f = string[name]
  string[name] = function(text, pattern, ...)
    local plain = name == "find" and select(2, ...)
    if not plain and #tostring(pattern) > 1000 then error("the pattern is too long", 2) end
    return f(text, pattern, ...)
  end
end
string.dump, string.gfind = nil, nil

local function signed(x)
  x = x % 2^32
  return x < 2^31 and x or x - 2^32
end

local function bitwise(f)
  return function(result, ...)
    result = result % 2^32
    for i = 1, select("#", ...) do
      local left, right = result, select(i, ...) % 2^32
      result = 0
      for position = 0, 31 do
        if f(left % 2 + right % 2) then result = result + 2^position end
        left, right = floor(left / 2), floor(right / 2)
      end
    end
    return signed(result)
  end
end

local function rotate(x, n)
  x, n = x % 2^32, n % 32
  return signed(x * 2^n % 2^32 + floor(x / 2^(32 - n)))
end

-- https://bitop.luajit.org/api.html
local bit = {
  tobit = signed,
  bnot = function(x) return signed(-1 - x) end,
  band = bitwise(function(sum) return sum == 2 end),
  bor = bitwise(function(sum) return sum > 0 end),
  bxor = bitwise(function(sum) return sum == 1 end),
  lshift = function(x, n) return signed(x % 2^32 * 2^(n % 32)) end,
  rshift = function(x, n) return signed(floor(x % 2^32 / 2^(n % 32))) end,
  arshift = function(x, n) return floor(signed(x) / 2^(n % 32)) end,
  rol = rotate,
  ror = function(x, n) return rotate(x, -n) end,
  bswap = function(x)
    local result = 0
    for _ = 1, 4 do
      result, x = result * 256 + x % 256, floor(x / 256)
    end
    return signed(result)
  end,
  tohex = function(x, n)
    local text = ("%08x"):format(x % 2^32):sub(-math.abs(n or 8))
    return (n or 8) < 0 and text:upper() or text
  end,
}

local visible = {
  bit = protect(bit),
  collectgarbage = function(what)
    return what == "count" and collectgarbage("count") or collectgarbage()
  end,
  os = protect({clock = clock}),
  rawset = function(table, ...)
    if protected[table] then refuse_change() end
    return rawset(table, ...)
  end,
  unpack = function(list, first, last)
    first, last = first or 1, last or #list
    if not (last - first < 8000) then error("too many results to unpack", 2) end
    return unpack(list, first, last)
  end,
  -- Lua calls the handler where the error is raised. For an error that the hook raises, that is in
  -- the hook, where no time limit applies.
  xpcall = function(f, handle)
    local function finish(succeeded, ...)
      if succeeded then return true, ... end
      return false, handle(...)
    end
    return finish(pcall(f))
  end,
}
-- Without load and loadstring, because Lua does not check bytecode; getfenv and setfenv, which lead to
-- other globals; coroutine, because a hook belongs to one coroutine.
local names = [[_VERSION assert error gcinfo getmetatable ipairs math next pairs pcall
  rawequal rawget select setmetatable string table tonumber tostring type]]
for name in names:gmatch("%S+") do
  visible[name] = type(G[name]) == "table" and protect(G[name]) or G[name]
end
getmetatable("").__metatable = false
getmetatable(sha1hex).__metatable = false  -- of all objects of Python, exceptions among them

local globals = protect({}, function(_, name)
  local value = visible[name]
  if name == "KEYS" or name == "ARGV" then value = G[name] end
  if value == nil then
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end
  return value
end)

local function confine()
  local redis, cjson = G.redis, G.cjson
  local call = call_python(redis.call)
  redis.call, redis.sha1hex, redis.log = call, call_python(sha1hex), function() end
  redis.pcall = function(...)
    local succeeded, result = pcall(call, ...)
    if succeeded then return result end
    return {err = tostring(result)}
  end
  cjson.encode, cjson.decode = call_python(cjson.encode), call_python(cjson.decode)
  visible.redis, visible.cjson = protect(redis), protect(cjson)
end

-- Returns a copy without metatables, because fakeredis reads it after the time limit.
local function plain(value, depth)
  if depth > 100 then error("reached lua stack limit", 0) end
  if type(value) == "number" and not (value > -2^63 and value < 2^63) then return -2^63 end
  if type(value) == "function" or type(value) == "userdata" then return end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in next, value do copy[key] = plain(item, depth + 1) end
  return copy
end

local function stop() error("the script took too long", 0) end

local function run(text, seconds)
  local chunk, message = loadstring(text, "@user_script")
  if not chunk then return {err = "ERR Error compiling script (new function): " .. message} end
  -- In processor time: a clock of Python's would wait for Python's lock each time.
  local deadline = clock() + seconds
  sethook(function()
    if clock() > deadline then
      sethook(stop, "", 1)  -- From now on pcall does not help.
      stop()
    end
  end, "", 100)
  local succeeded, result = pcall(setfenv(chunk, globals))
  if not succeeded and type(result) ~= "table" then
    if type(result) == "userdata" then error(result) end  -- an exception, which fakeredis knows
    result = {err = "ERR " .. tostring(result)}
  end
  result = plain(result, 0)
  lift_limit()
  return result
end

return confine, run, sethook, collectgarbage
