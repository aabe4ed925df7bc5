// Uploads a file with tus-js-client as the JSON in its argument says, and prints what was asked and answered.
//
//   endpoint, token, file, store    where to, as whom, what, and where URLs are kept from one run to the next
//   metadata, options               of tus.Upload, as its documentation names them
//   stream                          the file as a stream of no known length
//
// A line on its standard input has it abort, as a page does that is left.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';

// The client is installed elsewhere: this folder holds only what is written by hand.
const tus = createRequire(`${process.env.TUS_CLIENTS}/`)('tus-js-client');
const told = JSON.parse(process.argv[2]);
const requests = [];
let isOver = false;
process.stdin.once('data', () => upload.abort().then(() => end(0, { url: upload.url })));

function end(status, more) {
  if (isOver) return;
  isOver = true;
  process.stdout.write(JSON.stringify({ requests, ...more }), () => process.exit(status));
}

const file = fs.createReadStream(told.file);
const upload = new tus.Upload(told.stream ? file.pipe(new PassThrough()) : file, {
  endpoint: told.endpoint,
  headers: { Authorization: `Bearer ${told.token}` },
  metadata: told.metadata,
  urlStorage: new tus.FileUrlStorage(told.store),
  retryDelays: Array(50).fill(20),
  ...told.options,
  onAfterResponse(request, response) {
    requests.push({
      method: request.getMethod(),
      concat: request.getHeader('Upload-Concat')?.split(';')[0],
      status: response.getStatus(),
      offset: Number(response.getHeader('Upload-Offset')),
    });
  },
  onSuccess: () => end(0, { url: upload.url }),
  onError: (error) => end(1, { error: String(error) }),
});

// A stream has no fingerprint under which its URL could be kept.
const before = told.stream ? [] : await upload.findPreviousUploads();
if (before.length) upload.resumeFromPreviousUpload(before[0]);
upload.start();
