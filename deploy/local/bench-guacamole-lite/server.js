// guacamole-lite's server, configured as in its README but quiet and on a free
// loopback port: a baseline for make bench. Its arguments are the folder that
// holds node_modules and guacd's host:port. It prints {"value": {"address": ...,
// "token": ...}} (the token opens a session) and exits when its input ends.
'use strict';

const crypto = require('crypto');
const http = require('http');
const path = require('path');

const [modules, guacd] = process.argv.slice(2);
const [host, port] = guacd.split(':');
const lite = require(path.join(modules, 'node_modules', 'guacamole-lite'));

const key = crypto.randomBytes(32);
const base64 = (bytes) => Buffer.from(bytes).toString('base64');

function token() {
  const iv = crypto.randomBytes(16);
  const cipher = crypto.createCipheriv('AES-256-CBC', key, iv);
  const settings = { connection: { type: 'vnc', settings: { hostname: '127.0.0.1' } } };
  const value = Buffer.concat([cipher.update(JSON.stringify(settings), 'utf8'), cipher.final()]);
  return base64(JSON.stringify({ iv: base64(iv), value: base64(value) }));
}

const server = http.createServer();
new lite(
  { server },
  { host, port: Number(port) },
  { crypt: { cypher: 'AES-256-CBC', key }, log: { level: 'ERRORS', stdLog: console.error, errorLog: console.error } },
);
server.listen(0, '127.0.0.1', () => {
  const address = `127.0.0.1:${server.address().port}`;
  process.stdout.write(JSON.stringify({ value: { address, token: token() } }) + '\n');
});
process.stdin.on('end', () => process.exit(0)).resume();
