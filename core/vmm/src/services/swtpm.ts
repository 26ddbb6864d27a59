import { hexBytes, parseHexBytes } from '@vmplanes/binary';
import { HostError, type PlainRecord } from '@vmplanes/engine';
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { loadTpmState, saveTpmState, type TpmState } from './swtpm-control.ts';
import type { HostService, HostServiceKind } from './host-service.ts';

const COMMAND = 'swtpm';
const REMEDY = 'apt-get install -y swtpm, or leave the TPM of the guest off';
/** Longest time until the program listens, and between two looks, ms. */
const START_MS = 30_000;
const LOOK_MS = 10;
/** Bytes of the head of a response; its length is the big-endian word at 2. @spec TPM 2.0 Library part 1, response format */
const HEAD = 10;
const SIZE_AT = 2;

const find = (command: string): string | undefined =>
  (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });

/** Whether this host has the program. */
export const hasSwtpm = (): boolean => find(COMMAND) !== undefined;

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * A TPM 2.0 as a process of its own: swtpm, started at the first command, with a fresh state in a directory that goes with it. Commands and responses are
 * those of the TPM library specification, unchanged, in hexadecimal.
 */
export class Swtpm implements HostService {
  readonly #folder = mkdtempSync(join(tmpdir(), 'vmplanes-tpm-'));
  #child: ChildProcess | null = null;
  #socket: Socket | null = null;
  /** Why it answers no more. */
  #failure: string | null = null;
  #saved: TpmState | null = null;
  #isClosed = false;
  /** Bytes that have come, and who waits for a whole response. */
  #bytes: Buffer = Buffer.alloc(0);
  #waiter: ((response: Buffer | null) => void) | null = null;

  async ask(request: PlainRecord): Promise<PlainRecord> {
    if (typeof request['command'] !== 'string') return { error: 'a request to a TPM without a command' };
    try {
      const socket = await this.#start();
      const response = await this.#exchange(socket, Buffer.from(parseHexBytes(request['command'])));
      return response === null ? { error: this.#failure ?? 'the TPM ended' } : { response: hexBytes(response) };
    } catch (error) {
      return { error: error instanceof Error ? error.message : String(error) };
    }
  }

  #control(): string {
    return join(this.#folder, 'control');
  }

  async #start(): Promise<Socket> {
    if (this.#failure !== null) throw new Error(this.#failure);
    if (this.#socket !== null) return this.#socket;
    const program = find(COMMAND);
    if (program === undefined) throw new Error(`${COMMAND} is not installed (${REMEDY})`);
    const data = join(this.#folder, 'data');
    const child = spawn(
      program,
      ['socket', '--tpm2', '--tpmstate', `dir=${this.#folder}`, '--server', `type=unixio,path=${data}`, '--ctrl', `type=unixio,path=${this.#control()}`, '--log', `file=${join(this.#folder, 'log')}`, ...(this.#saved === null ? ['--flags', 'not-need-init'] : [])],
      { stdio: 'ignore' },
    );
    this.#child = child;
    child.on('error', (error) => this.#fail(`${COMMAND} cannot be started: ${error.message}`));
    child.on('exit', (code, signal) => this.#fail(`${COMMAND} ended with ${signal ?? `code ${code}`}`));
    child.unref();
    if (this.#saved !== null) loadTpmState(this.#control(), this.#saved);
    const socket = await this.#connect(data);
    socket.on('data', (bytes) => this.#take(bytes));
    socket.on('close', () => this.#fail(`${COMMAND} closed its connection`));
    socket.on('error', (error) => this.#fail(error.message));
    // An idle TPM keeps no process alive.
    socket.unref();
    this.#socket = socket;
    return socket;
  }

  /** The program makes its sockets a little before it listens on them. */
  async #connect(path: string): Promise<Socket> {
    for (let waited = 0; ; waited += LOOK_MS) {
      if (this.#failure !== null) throw new Error(this.#failure);
      const socket = connect(path);
      const error = await new Promise<Error | null>((resolve) => socket.once('connect', () => resolve(null)).once('error', resolve));
      if (error === null) return socket;
      if (waited > START_MS) throw new Error(`${COMMAND} does not listen: ${error.message}`);
      await wait(LOOK_MS);
    }
  }

  #exchange(socket: Socket, command: Buffer): Promise<Buffer | null> {
    return new Promise((resolve) => {
      socket.ref();
      this.#waiter = (response) => {
        socket.unref();
        resolve(response);
      };
      socket.write(command);
    });
  }
  #take(bytes: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    if (this.#bytes.length < HEAD) return;
    const size = Math.max(HEAD, this.#bytes.readUInt32BE(SIZE_AT));
    if (this.#bytes.length < size) return;
    const response = this.#bytes.subarray(0, size);
    this.#bytes = this.#bytes.subarray(size);
    this.#answer(response);
  }
  #answer(response: Buffer | null): void {
    const waiter = this.#waiter;
    this.#waiter = null;
    waiter?.(response);
  }
  #fail(why: string): void {
    if (this.#isClosed) return;
    this.#failure ??= why;
    this.#answer(null);
  }

  save(): PlainRecord | null {
    if (this.#failure !== null) throw new HostError('BadSnapshot', `the TPM of the guest cannot be part of a snapshot: ${this.#failure}`);
    if (this.#socket === null) return this.#saved === null ? null : { ...this.#saved };
    return { ...saveTpmState(this.#control()) };
  }
  restore(state: PlainRecord | null): void {
    this.#saved = state as TpmState | null;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#answer(null);
    this.#socket?.destroy();
    this.#child?.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** The service `tpm`. */
export const swtpm: HostServiceKind = {
  check() {
    if (!hasSwtpm()) throw new HostError('NoService', `the guest has a TPM, and the program ${COMMAND} is not installed (${REMEDY})`, { fix: REMEDY });
  },
  make: () => new Swtpm(),
};
