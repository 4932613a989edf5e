// B3's Node peer: node peer_first.mjs URL. Sends one request as soon as it can.
import http from 'node:http';

http.get(process.argv[2], (response) => response.resume()).on('error', () => {});
