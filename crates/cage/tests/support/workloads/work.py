# A small day's work of Python: files, a database, processes, threads, sockets, signals; nothing but the library.
import asyncio, json, mmap, os, queue, selectors, shutil, signal, socket, sqlite3, ssl, subprocess, sys, tempfile, threading, time

os.chdir("/data")
with tempfile.TemporaryDirectory(dir="/data") as place:
    path = os.path.join(place, "notes.json")
    with open(path, "w") as file:
        json.dump({"a": list(range(1000))}, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.copy2(path, path + ".copy")
    os.rename(path + ".copy", path + ".moved")
    os.symlink(path, path + ".link")
    os.link(path, path + ".hard")
    os.chmod(path, 0o600)
    os.utime(path)
    os.mkfifo(os.path.join(place, "pipe"))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"{"
        mapped.flush()
    sorted(os.scandir(place), key=lambda entry: entry.name)
    shutil.disk_usage(place)

database = sqlite3.connect("/data/work.db")
database.execute("create table if not exists t (id integer primary key, text)")
with database:
    database.executemany("insert into t (text) values (?)", [(str(n),) for n in range(500)])
database.execute("pragma journal_mode=wal")
assert database.execute("select count(*) from t").fetchone()[0] == 500
database.close()
os.remove("/data/work.db")

said = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
assert said.stdout == "42\n"

work = queue.Queue()
threads = [threading.Thread(target=lambda: work.put(sum(range(100000)))) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]

async def echo():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    writer.close()
    server.close()
    process = await asyncio.create_subprocess_exec("/bin/true")
    await process.wait()

asyncio.run(echo())
left, right = socket.socketpair()
left.sendmsg([b"x"])
selector = selectors.DefaultSelector()
selector.register(right, selectors.EVENT_READ)
assert selector.select(1)
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
    six.settimeout(0.1)
socket.if_nameindex()
socket.if_indextoname(socket.if_nametoindex("lo"))
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.05)
context = ssl.create_default_context()
os.sched_getaffinity(0), os.getloadavg() if os.path.exists("/proc/loadavg") else None
os.getpriority(os.PRIO_PROCESS, 0)

# As an agent does that confines its own tools: Landlock, then a filter of its own.
import ctypes
kernel = ctypes.CDLL(None, use_errno=True).syscall
class Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("parent", ctypes.c_int32)]
class Step(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("steps", ctypes.POINTER(Step))]
write_file = ctypes.c_uint64(1 << 1)
rules = kernel(444, ctypes.byref(write_file), ctypes.c_size_t(8), 0)
here = os.open("/data", os.O_PATH)
assert rules >= 0 and kernel(445, rules, 1, ctypes.byref(Beneath(1 << 1, here)), 0) == 0 and kernel(446, rules, 0) == 0
allow = Step(0x06, 0, 0, 0x7FFF0000)
assert kernel(317, 1, 0, ctypes.byref(Program(1, ctypes.pointer(allow)))) == 0
print("done")
