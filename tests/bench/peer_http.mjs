// B1's Node peers: node peer_http.mjs http|fetch URL COUNT INFLIGHT [CAFILE]. Prints the loop's seconds.
import http from 'node:http';
import https from 'node:https';
import { readFileSync } from 'node:fs';

const [, , kind, url, count, inflight, ca] = process.argv;
const headers = { 'If-None-Match': '"bench"' };
const module = url.startsWith('https:') ? https : http;
const agent = new module.Agent({ keepAlive: true, maxSockets: Number(inflight), ca: ca && readFileSync(ca) });
let left = Number(count);
let bad = 0;

function viaHttp() {
  return new Promise((resolve, reject) => {
    module.get(url, { agent, headers }, (response) => {
      response.on('end', () => resolve(response.statusCode)).on('error', reject).resume();
    }).on('error', reject);
  });
}

async function viaFetch() {
  const response = await fetch(url, { headers });
  await response.arrayBuffer();
  return response.status;
}

const once = kind === 'fetch' ? viaFetch : viaHttp;

async function worker() {
  while (left > 0) {
    left--;
    if (await once() !== 304) bad++;
  }
}

const began = process.hrtime.bigint();
await Promise.all(Array.from({ length: Number(inflight) }, worker));
console.log((Number(process.hrtime.bigint() - began) / 1e9).toFixed(6));
agent.destroy();
process.exit(bad > 0 ? 1 : 0);
