// B4's Node peer: node peer_four.mjs COUNT COMMAND [ARG]. COUNT times four children, one after the other; prints the
// milliseconds of each four as a JSON list.
import { spawn } from 'node:child_process';

const [, , count, command, ...args] = process.argv;
const once = () => new Promise((resolve, reject) => {
  spawn(command, args, { stdio: 'pipe' }).on('close', resolve).on('error', reject);
});

const list = [];
for (let i = 0; i < Number(count); i++) {
  const began = performance.now();
  for (let n = 0; n < 4; n++) {
    if (await once() !== 0) process.exit(1);
  }
  list.push(performance.now() - began);
}
console.log(JSON.stringify(list));
