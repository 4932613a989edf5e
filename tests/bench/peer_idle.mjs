// B2's Node peer: node peer_idle.mjs COUNT. As many timers as pipelines, each due once a minute, doing nothing.
const count = Number(process.argv[2]);
const seen = new Map();
for (let i = 0; i < count; i++) {
  setTimeout(() => setInterval(() => seen.set(i, (seen.get(i) ?? 0) + 1), 60_000), Math.random() * 60_000);
}
setInterval(() => {}, 60_000);
console.log('idle');
