// B5's Node peer: node peer_spawn.mjs COUNT BALLAST_MB. Spawns /bin/true with pipes, one after the other.
// Prints microseconds for each and the longest time in which a 1 ms timer was not served (ms).
import { spawn } from 'node:child_process';

const [, , count, ballastMb] = process.argv.map(Number);
const ballast = Buffer.alloc(ballastMb * 1048576, 1);
let stall = 0;
let last = performance.now();
const tick = setInterval(() => {
  const now = performance.now();
  stall = Math.max(stall, now - last - 1);
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
console.log(JSON.stringify({ each, stall, ballast: ballast.length }));
