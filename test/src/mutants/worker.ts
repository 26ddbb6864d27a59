import { execute, type Job } from './execute.ts';

// A process that runs jobs of the pool until it is ended. Output of tests is not wanted.
console.log = console.info = console.warn = console.error = (): void => {};
// A rejection nobody waits for belongs to a change that is being judged by its tests.
process.on('unhandledRejection', () => {});
process.on('message', (job: Job) => {
  void execute(job, (index) => process.send?.({ step: index })).then(
    (report) => process.send?.({ report }),
    (error: unknown) => process.send?.({ failure: String(error) }),
  );
});
