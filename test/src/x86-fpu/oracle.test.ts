import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Arena } from '@vmplanes/engine';
import { CONTEXT_SIZE, Fx32Long, Fx64, loadXsave, saveFxsave, saveXsave, X86, Xfeature } from '@vmplanes/x86';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { requirement, systemTool } from '../support/system-tool.ts';

const cpu = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'latin1') : '';
const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(cpu)?.[1]?.split(' ') ?? []);
// AMD processors drop the x87 pointers and opcode unless an exception is pending (APM2 §11.4.4.3); older ones leave stale ones behind.
const amd = cpu.includes('AuthenticAMD');
const pointersKept = !amd || flags.has('xsaveerptr');
const suitable = pointersKept && process.arch === 'x64' && flags.has('avx') && flags.has('xsavec');

const INPUT = 832;
const OUTPUT = 8 + 512 + 512 + 832 + 832;
const ALL = Xfeature.x87 | Xfeature.sse | Xfeature.avx;

/** Deterministic bytes: a 32-bit xorshift generator. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** A standard-format image with random contents; some register files zero, some header bits clear, some fields illegal. */
function randomImage(next: () => number): Uint8Array {
  const image = new Uint8Array(INPUT);
  for (let i = 0; i < INPUT; i++) image[i] = next() >>> 11;
  const view = new DataView(image.buffer);
  const kind = next() % 8;
  // How many bits of an x87 pointer a processor keeps depends on its linear-address width.
  for (const at of [12, 20]) view.setUint32(at, view.getUint32(at, true) & 0x7fff, true);
  view.setUint32(24, kind === 0 ? next() : next() & 0xffff, true);
  if (kind === 1) view.setUint32(24, 0x1f80, true);
  if (next() % 4 === 0) image.fill(0, 160, 416);
  if (next() % 4 === 0) image.fill(0, 576);
  if (next() % 4 === 0) {
    image.fill(0, 0, 24).fill(0, 32, 160);
    view.setUint16(0, 0x37f, true);
  }
  image.fill(0, 512, 576);
  view.setUint32(512, next() % 2 === 0 ? ALL : next() & ALL, true);
  if (kind === 2) view.setUint32(512, (next() & ALL) | (1 << 30), true);
  if (kind === 3) image[520 + (next() % 16)] = 1;
  if (kind === 4) image[536 + (next() % 40)] = 1;
  return image;
}

/** Clears what processors are free to drop: the pointers where no exception is pending, and selectors in the 32-bit form. */
function comparable(image: Uint8Array, wide: boolean): string {
  const copy = new Uint8Array(image);
  if (amd && (copy[2]! & 0x80) === 0) copy.fill(0, 6, 24);
  if (!wide) copy.fill(0, 12, 16).fill(0, 20, 24);
  return Buffer.from(copy).toString('hex');
}

const processor = requirement(suitable, 'the host processor has no AVX and XSAVEC, or does not keep x87 pointers', 'run on a newer x86-64 processor');
const gcc = systemTool('the C compiler', { debianPackage: 'gcc', command: 'gcc' });
const oracle = suitable ? gcc : processor;

describe('floating-point images against the host processor', () => {
  let directory = '';
  let program = '';
  beforeAll(() => {
    if (!oracle.isMet) return;
    directory = mkdtempSync(join(tmpdir(), 'vmplanes-fpu-'));
    program = join(directory, 'oracle');
    const built = spawnSync(gcc.command, ['-O1', '-o', program, fileURLToPath(new URL('./oracle.c', import.meta.url))], { encoding: 'utf8' });
    expect(built.stderr).toBe('');
  });
  afterAll(() => void (directory && rmSync(directory, { recursive: true, force: true })));

  oracle.it('stores what the processor stores after loading the same image, and faults where it faults', () => {
    const next = generator(0x1234_5678);
    const images = Array.from({ length: 600 }, () => randomImage(next));
    const run = spawnSync(program, { input: Buffer.concat(images), maxBuffer: images.length * OUTPUT + 1 });
    expect(run.status).toBe(0);
    expect(run.stdout.length).toBe(images.length * OUTPUT);
    const arena = new Arena(new ArrayBuffer(CONTEXT_SIZE));
    let faults = 0;
    let compared = 0;
    images.forEach((image, i) => {
      const answer = run.stdout.subarray(i * OUTPUT, (i + 1) * OUTPUT);
      arena.u8.fill(0);
      arena.u32[X86.mxcsrMask / 4] = answer.readUInt32LE(8 + 28) === 0xa5a5_a5a5 ? 0xffff : answer.readUInt32LE(8 + 28);
      const result = loadXsave(arena, 0, image, 0, { requested: ALL, enabled: ALL, formats: 'both', form: Fx64 });
      expect([i, result === 'ok']).toEqual([i, answer.readUInt32LE(0) === 0]);
      if (result !== 'ok') {
        faults++;
        return;
      }
      const fresh = (size: number): Uint8Array => new Uint8Array(size).fill(0xa5);
      const fx64 = fresh(512);
      saveFxsave(arena, 0, fx64, 0, Fx64);
      expect([i, comparable(fx64, true)]).toEqual([i, comparable(answer.subarray(8, 520), true)]);
      const fx = fresh(512);
      saveFxsave(arena, 0, fx, 0, Fx32Long);
      expect([i, comparable(fx, false)]).toEqual([i, comparable(answer.subarray(520, 1032), false)]);
      const standard = fresh(832).fill(0, 512, 576);
      saveXsave(arena, 0, standard, 0, { requested: ALL, compacted: false, optimised: false, form: Fx64 });
      const theirs = new Uint8Array(answer.subarray(1032, 1864));
      expect([i, comparable(standard.subarray(0, 512), true)]).toEqual([i, comparable(theirs.subarray(0, 512), true)]);
      expect([i, standard.subarray(516)]).toEqual([i, theirs.subarray(516)]);
      // A processor may report an initial component as in use, never the other way.
      expect([i, standard[512]! & ~theirs[512]!]).toEqual([i, 0]);
      const compacted = fresh(832);
      expect(saveXsave(arena, 0, compacted, 0, { requested: ALL, compacted: true, optimised: true, form: Fx64 })).toBe(832);
      const packed = new Uint8Array(answer.subarray(1864));
      expect([i, compacted[512]! & ~packed[512]!]).toEqual([i, 0]);
      if (compacted[512] !== packed[512]) return;
      compared++;
      if (!(compacted[512]! & Xfeature.x87)) expect([i, compacted.subarray(0, 24)]).toEqual([i, packed.subarray(0, 24)]);
      else expect([i, comparable(compacted.subarray(0, 24), true)]).toEqual([i, comparable(packed.subarray(0, 24), true)]);
      // XSAVEC leaves the last 48 header bytes undefined.
      expect([i, compacted.subarray(24, 528), compacted.subarray(576)]).toEqual([i, packed.subarray(24, 528), packed.subarray(576)]);
    });
    expect(faults).toBeGreaterThan(50);
    expect(compared).toBeGreaterThan(200);
  });
});
