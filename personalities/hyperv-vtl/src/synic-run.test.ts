import { HV_MESSAGE_SIZE, HvMsr, HvStimerConfig, HvTimerMessagePayload } from '@vmplanes/abi-hyperv';
import { type GeneratorScript, ScriptCpu, type Step, type StepResult } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Rig } from './fixture.ts';

const SIM = 5;
const ASSIST = 6;
const VECTOR = 0x52;
const slot = SIM * 4096 + 2 * HV_MESSAGE_SIZE;
const enabled = (gpn: number): bigint => (BigInt(gpn) << 12n) | 1n;
const setUp: readonly Step[] = [
  { op: 'wrmsr', index: HvMsr.Scontrol, value: 1 },
  { op: 'wrmsr', index: HvMsr.Simp, value: enabled(SIM) },
  { op: 'wrmsr', index: HvMsr.Sint2, value: VECTOR },
  { op: 'sti' },
];

/** A guest that sleeps and takes messages by the book: read, free the slot, EOM when more wait, EOI. */
const guest = (seen: bigint[], prepare: readonly Step[], lazyEoi = false): GeneratorScript => ({
  id: 'guest',
  *main() {
    for (const step of [...setUp, ...prepare]) yield step;
    for (;;) yield { op: 'hlt' };
  },
  *handler(): Generator<Step, void, StepResult> {
    seen.push((yield { op: 'read', size: 8, gpa: slot + 16 + HvTimerMessagePayload.at.expirationTime }).rax);
    const { rax } = yield { op: 'read', size: 1, gpa: slot + 5 };
    yield { op: 'write', size: 4, gpa: slot, value: 0 };
    if ((rax & 1n) !== 0n) yield { op: 'wrmsr', index: HvMsr.Eom, value: 0 };
    const assist = lazyEoi ? (yield { op: 'read', size: 4, gpa: ASSIST * 4096 }).rax & 1n : 0n;
    yield assist === 1n ? { op: 'write', size: 4, gpa: ASSIST * 4096, value: 0 } : { op: 'eoi' };
  },
});
const start = (r: Rig, vp: number, script: GeneratorScript): void => r.machine.setCpu(r.machine.vp(vp), new ScriptCpu(r.machine, r.arch, { 0: { script } }));
const stimer = (n: number, count: number, periodic: boolean): readonly Step[] => [
  { op: 'wrmsr', index: HvMsr.Stimer0Config + 2 * n, value: HvStimerConfig.pack({ sintx: 2, autoEnable: true, periodic }) },
  { op: 'wrmsr', index: HvMsr.Stimer0Count + 2 * n, value: count },
];

describe('a sleeping guest', () => {
  it.each([
    ['with EOI', false],
    ['with EOI by the assist page', true],
  ])('is woken by every expiry of its timers, in time order, %s', (_what, lazyEoi) => {
    const r = new Rig();
    const seen: bigint[] = [];
    const assist: readonly Step[] = lazyEoi ? [{ op: 'wrmsr', index: HvMsr.VpAssistPage, value: enabled(ASSIST) }] : [];
    start(r, 0, guest(seen, [...assist, ...stimer(0, 5000, false), ...stimer(1, 7000, false), ...stimer(2, 7000, false), ...stimer(3, 6000, true)], lazyEoi));
    while (seen.length < 8) r.machine.run(50);
    expect(seen.slice(0, 1)).toEqual([5000n]);
    // Two are due at one time: one waits in its timer until the slot is free.
    expect(seen.filter((time) => time === 7000n)).toHaveLength(2);
    const ticks = seen.filter((time) => time !== 5000n && time !== 7000n);
    expect(ticks.slice(1).every((time, i) => time - ticks[i]! === 6000n)).toBe(true);
    expect(r.apic(r.context()).highestIsr()).toBe(-1);
  });

  it('is woken by messages from outside its VP, all of them in order', () => {
    const r = new Rig(2);
    const seen: bigint[] = [];
    start(r, 0, { id: 'none', *main() {
      yield { op: 'hlt' };
    } });
    start(r, 1, guest(seen, []));
    expect(r.machine.run(1000).kind).toBe('idle');
    for (let n = 1; n <= 5; n++) {
      const message = new Uint8Array(HV_MESSAGE_SIZE).fill(1, 0, 1);
      new DataView(message.buffer).setBigUint64(16 + HvTimerMessagePayload.at.expirationTime, BigInt(n), true);
      r.chapters.synic.post(r.context(1), 2, message, true);
    }
    expect(r.machine.run(1000).kind).toBe('idle');
    expect(seen).toEqual([1n, 2n, 3n, 4n, 5n]);
  });
});
