// Jobs per second that BullMQ workers of one process complete, on the Redis at the given port.
//
//   node run.mjs PORT JOBS CONCURRENCY WORKERS
//
// The jobs are queued before the clock starts. Completed jobs are removed, which is the cheaper way for BullMQ.
// Prints one number.

import { Queue, Worker } from 'bullmq';

const [port, jobs, concurrency, count] = process.argv.slice(2).map(Number);
const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
const name = 'bench';

const queue = new Queue(name, { connection, defaultJobOptions: { removeOnComplete: true } });
for (let done = 0; done < jobs; done += 500) {
  const some = Math.min(500, jobs - done);
  await queue.addBulk(Array.from({ length: some }, () => ({ name, data: null })));
}

let completed = 0;
const begun = process.hrtime.bigint();
const workers = Array.from({ length: count }, () => new Worker(name, async () => {}, { connection, concurrency }));
await new Promise((resolve, reject) => {
  for (const worker of workers) {
    worker.on('completed', () => {
      completed += 1;
      if (completed === jobs) resolve();
    });
    worker.on('error', reject);
  }
});
const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
console.log((jobs / seconds).toFixed(1));

await Promise.all(workers.map((worker) => worker.close()));
await queue.close();
