import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Job, Report } from './execute.ts';

/** Does jobs. `undefined`: the process that did it had to be ended, or died. */
export interface Executor {
  run(job: Job, limits: readonly number[]): Promise<Report | undefined>;
  close(): void;
}

type Message = { readonly step: number } | { readonly report: Report } | { readonly failure: string };

/** One process, started again after it had to be ended. */
export class WorkerProcess implements Executor {
  #child: ChildProcess | undefined;
  /** @param program - the built `worker.ts`. */
  constructor(readonly program: string = fileURLToPath(new URL('./worker.js', import.meta.url))) {}

  #process(): ChildProcess {
    this.#child ??= fork(this.program, [], {
      execArgv: ['--max-old-space-size=1024', '--stack-size=900'],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      serialization: 'advanced',
    });
    return this.#child;
  }

  /** @param limits - ms for each step, after which the process is ended. */
  run(job: Job, limits: readonly number[]): Promise<Report | undefined> {
    const child = this.#process();
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const finish = (report: Report | undefined, error?: Error): void => {
        clearTimeout(timer);
        child.removeAllListeners();
        if (report === undefined) {
          child.kill('SIGKILL');
          this.#child = undefined;
        }
        if (error) reject(error);
        else resolve(report);
      };
      child.on('message', (message: Message) => {
        if ('report' in message) return finish(message.report);
        if ('failure' in message) return finish(undefined, new Error(message.failure));
        clearTimeout(timer);
        timer = setTimeout(() => finish(undefined), limits[message.step] ?? 60_000);
      });
      child.on('exit', () => finish(undefined));
      child.on('error', (error) => finish(undefined, error));
      child.send(job);
    });
  }

  close(): void {
    this.#child?.removeAllListeners();
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }
}
