import { hexBytes, parseHexBytes } from '@vmplanes/binary';
import { HostError } from '@vmplanes/engine';
import { spawnSync } from 'node:child_process';

/** The state of a TPM as the program keeps it: blobs in hexadecimal. */
export interface TpmState {
  readonly permanent: string;
  readonly volatile: string;
}

/** Commands of the control channel, and the kinds of state; all numbers are big endian. @spec swtpm include/swtpm/tpm_ioctl.h */
const Control = { Init: 0x02, GetState: 0x0c, SetState: 0x0d } as const;
const StateType = { permanent: 1, volatile: 2 } as const;
/** Longest time until everything is answered, ms: a busy host may let the program wait long. */
const TIMEOUT_MS = 60_000;

/**
 * Exchanges commands on the control channel. Snapshots are taken between two events, without a turn of the event loop, so another process talks.
 * Each command says how long its answer is: a fixed number of bytes, or a head that holds the number of bytes behind it.
 */
const TALK = `
const [path, ...commands] = process.argv.slice(1);
let socket;
let tries = 0;
const answers = [];
let bytes = Buffer.alloc(0);
const lengthOf = (hex) => hex.startsWith('0000000c') ? 16 : 4;
const next = () => {
  if (answers.length === commands.length) { process.stdout.write(JSON.stringify(answers)); socket.end(); return; }
  socket.write(Buffer.from(commands[answers.length], 'hex'));
};
const take = (more) => {
  bytes = Buffer.concat([bytes, more]);
  const head = lengthOf(commands[answers.length]);
  if (bytes.length < 4) return;
  const failed = bytes.readUInt32BE(0) !== 0;
  if (!failed && bytes.length < head) return;
  const all = head === 16 && !failed ? 16 + bytes.readUInt32BE(12) : 4;
  if (bytes.length < all) return;
  answers.push(bytes.subarray(0, all).toString('hex'));
  bytes = bytes.subarray(bytes.length);
  next();
};
// The program makes its socket a little before it listens on it.
const open = () => {
  socket = require('node:net').connect(path);
  socket.on('connect', next);
  socket.on('data', take);
  let problem = 'it closes the channel';
  socket.on('error', (error) => { problem = error.message; });
  socket.on('close', () => {
    if (answers.length === commands.length) return;
    if (answers.length === 0 && tries++ < 1500) { setTimeout(open, 20); return; }
    process.stderr.write(problem);
    process.exitCode = 1;
  });
};
open();
`;

function talk(path: string, commands: readonly Uint8Array[]): readonly Uint8Array[] {
  const run = spawnSync(process.execPath, ['-e', TALK, path, ...commands.map(hexBytes)], { encoding: 'utf8', timeout: TIMEOUT_MS, maxBuffer: 1 << 26 });
  if (run.status !== 0 || run.stdout === '') throw new HostError('BadSnapshot', `the TPM of the guest does not answer on its control channel: ${run.stderr || String(run.signal)}`);
  return (JSON.parse(run.stdout) as string[]).map(parseHexBytes);
}

const words = (...values: readonly number[]): Uint8Array => {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((v, i) => view.setUint32(i * 4, v));
  return bytes;
};
const word = (bytes: Uint8Array, at: number): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);

function readState(path: string, type: number): string {
  const parts: Uint8Array[] = [];
  for (let offset = 0; ; ) {
    const [answer] = talk(path, [words(Control.GetState, 1, type, offset)]);
    const status = answer!.length < 4 ? -1 : word(answer!, 0);
    if (status !== 0) throw new HostError('BadSnapshot', `the TPM of the guest does not give its state: 0x${(status >>> 0).toString(16)}`);
    const total = word(answer!, 8);
    const piece = answer!.subarray(16);
    parts.push(piece);
    offset += piece.length;
    if (offset >= total || piece.length === 0) return parts.map(hexBytes).join('');
  }
}

/** Reads the state of a TPM that runs. @throws {HostError} BadSnapshot. */
export const saveTpmState = (path: string): TpmState => ({ permanent: readState(path, StateType.permanent), volatile: readState(path, StateType.volatile) });

/** Gives a state to a TPM that was not started yet, and starts it. @throws {HostError} BadSnapshot. */
export function loadTpmState(path: string, state: TpmState): void {
  const commands: Uint8Array[] = (['permanent', 'volatile'] as const).map((name) => {
    const blob = parseHexBytes(state[name]);
    const head = words(Control.SetState, 1, StateType[name], blob.length);
    const command = new Uint8Array(head.length + blob.length);
    command.set(head);
    command.set(blob, head.length);
    return command;
  });
  commands.push(words(Control.Init, 0));
  const failed = talk(path, commands).find((answer) => word(answer, 0) !== 0);
  if (failed) throw new HostError('BadSnapshot', `the TPM of the guest does not take its state: 0x${word(failed, 0).toString(16)}`);
}
