// B5's Node peer: node peer_spawn.mjs COUNT BALLAST_MB. Spawns /bin/true with pipes, one after the other.
// Prints microseconds for each, and how late a 1 ms timer was served (ms): the worst, and the 99th percentile.
import { spawn } from 'node:child_process';

const [, , count, ballastMb] = process.argv.map(Number);
const ballast = Buffer.alloc(ballastMb * 1048576, 1);
const late = [];
let last = performance.now();
const tick = setInterval(() => {
  const now = performance.now();
  late.push(Math.max(0, now - last - 1));
  last = now;
}, 1);

const once = () => new Promise((resolve, reject) => {
  spawn('/bin/true', { stdio: 'pipe' }).on('close', resolve).on('error', reject);
});

const began = performance.now();
for (let i = 0; i < count; i++) {
  if (await once() !== 0) process.exit(1);
}
const each = (performance.now() - began) * 1000 / count;
clearInterval(tick);
late.sort((a, b) => a - b);
const p99 = late[Math.floor(late.length * 0.99)];
console.log(JSON.stringify({ each, stall: late.at(-1), p99, ballast: ballast.length }));
