// An application of the trials: a primary process with two workers. On SIGHUP it starts new workers, and lets the old ones
// finish what they have begun. The options are JSON, the first argument.
const cluster = require('cluster');
const fs = require('fs');
const http = require('http');
const http2 = require('http2');

const options = JSON.parse(process.argv[2]);
const workers = 2;

if (cluster.isPrimary) {
  let current = [];
  const start = () => {
    const old = current;
    current = [];
    let ready = 0;
    for (let i = 0; i < workers; i++) {
      const w = cluster.fork();
      current.push(w);
      w.once('listening', () => {
        if (++ready !== workers || old.length === 0) return;
        old.forEach((o) => o.isConnected() && o.send('retire'));
        console.log('old workers told to retire');
      });
    }
  };
  start();
  process.on('SIGHUP', start);
  process.on('SIGTERM', () => process.exit(0));
} else {
  const log = fs.openSync(options.log, 'a');
  const handle = (req, res) => {
    const id = req.headers['trial-id'];
    fs.writeSync(log, `id ${id}\n`);
    let size = 0;
    req.on('data', (chunk) => { size += chunk.length; });
    req.on('end', () => {
      if (size !== Number(req.headers['trial-size'])) {
        res.statusCode = 400;
        res.end(`body of ${size} bytes`);
        return;
      }
      if (options.close) res.setHeader('Connection', 'close');
      // Node announces its timeout on its own, unless there is such a header.
      if (options.idle && !options.announce && !options.h2) res.setHeader('Connection', 'keep-alive');
      res.end(id + '\n' + 'x'.repeat(options.answer) + '\n');
    });
  };
  let server;
  const sessions = new Set();
  if (options.h2) {
    server = http2.createSecureServer({
      cert: fs.readFileSync(options.cert),
      key: fs.readFileSync(options.key),
      settings: options.streams ? { maxConcurrentStreams: options.streams } : {},
    }, handle);
    server.on('session', (s) => {
      sessions.add(s);
      s.on('close', () => sessions.delete(s));
      if (options.idle) s.setTimeout(options.idle, () => s.close());
      let streams = 0;
      s.on('stream', () => { if (++streams === options.requests) s.close(); });
    });
  } else {
    server = http.createServer(handle);
    server.keepAliveTimeout = options.idle || 60000;
    server.maxRequestsPerSocket = options.requests;
  }
  const [host, port] = options.addr.split(':');
  server.listen(Number(port), host);
  process.on('message', () => {
    server.close(() => process.exit(0));
    sessions.forEach((s) => s.close());
  });
}
