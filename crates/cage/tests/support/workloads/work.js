// A small day's work of Node: files, watching them, a server and its client, a worker, a child.
const fs = require("fs"), http = require("http"), { execFileSync, spawn } = require("child_process");
const { Worker } = require("worker_threads"), os = require("os"), path = require("path"), zlib = require("zlib");

const place = fs.mkdtempSync("/data/node-");
const file = path.join(place, "a.txt");
fs.writeFileSync(file, "hello".repeat(1000));
fs.copyFileSync(file, file + ".copy");
fs.cpSync(place, place + "-2", { recursive: true });
fs.readdirSync(place, { withFileTypes: true });
fs.rmSync(place + "-2", { recursive: true });
zlib.gunzipSync(zlib.gzipSync(fs.readFileSync(file)));
os.networkInterfaces();
os.cpus();
execFileSync("/bin/cat", [file]);

const watcher = fs.watch(place);
const worker = new Worker("require('worker_threads').parentPort.postMessage(1)", { eval: true });
const server = http.createServer((request, response) => response.end("ok"));
const timer = setTimeout(() => { console.error("late"); process.exit(1); }, 15000);
worker.on("message", () => server.listen(0, "127.0.0.1", () => {
    http.get({ port: server.address().port, host: "127.0.0.1" }, response => {
        response.resume().on("end", () => spawn("/bin/true").on("exit", () => {
            watcher.close(); server.close(); clearTimeout(timer);
            fs.promises.rm(place, { recursive: true }).then(() => console.log("done"));
        }));
    });
}));
