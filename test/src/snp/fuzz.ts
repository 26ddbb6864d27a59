import { createHash } from 'node:crypto';
import { serialize } from 'node:v8';
import { Ghcb } from '@vmplanes/abi-sev-snp';
import { PAGE_SIZE } from '@vmplanes/engine';
import { type Act, Acts } from './fuzz-acts.ts';
import { type FuzzConfig, FuzzGuest, ghcbPage, Svsm, vmsaPage } from './fuzz-guest.ts';
import { updateOperand } from './rig.ts';

/** What sessions did, so that a test can see that they did something. */
export interface Tally {
  sessions: number;
  acts: number;
  /** Steps that guests did. */
  done: number;
  switches: number;
  exits: number;
  checks: number;
  /** Kinds of exits and faults, requests that succeeded. */
  readonly met: Map<string, number>;
}
export const emptyTally = (): Tally => ({ sessions: 0, acts: 0, done: 0, switches: 0, exits: 0, checks: 0, met: new Map() });
export const summaryOf = ({ met, ...counts }: Tally): string => `${Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(', ')}; ${[...met].sort(([a], [b]) => (a < b ? -1 : 1)).map(([what, n]) => `${what} ${n}`).join(', ')}`;

/** Instructions of every VP that a step may take. */
const PATIENCE = 5;
const GHCB_MSR = 0xc001_0130;

export const configOf = (seed: number): FuzzConfig => ({ svsm: seed % 3 === 0, policy: seed % 5 === 0 ? 'userspace' : 'lowest-runnable', refusedAccess: seed % 2 === 0 || seed % 3 === 0 ? 'exit' : 'vmpl0', restricted: seed % 7 === 0 });
export const actsOf = (seed: number, count: number): Act[] => {
  const source = new Acts(seed, configOf(seed).svsm);
  return Array.from({ length: count }, () => source.next());
};

const perform = (guest: FuzzGuest, act: Act, tally: Tally): void => {
  const { machine, snp } = guest;
  const step = (s: Parameters<FuzzGuest['attempt']>[0], vp: number): boolean => {
    const { result } = { result: guest.attempt(s, vp, PATIENCE) };
    if (result !== null) tally.done++;
    return result !== null && result.fault === null;
  };
  const note = (what: string): void => void tally.met.set(what, (tally.met.get(what) ?? 0) + 1);
  switch (act.kind) {
    case 'step':
      if (step(act.step, act.vp) && act.step.op === 'instruction') note(act.step.name);
      return;
    case 'page': {
      const vmpl = machine.vp(act.vp).current;
      const gpa = ghcbPage(act.vp, vmpl) * PAGE_SIZE;
      const bytes = act.bytes.slice();
      const view = new DataView(bytes.buffer);
      const scratch = view.getBigUint64(Ghcb.at.swScratch, true);
      if (scratch >= 0x800n && scratch < 0x900n) view.setBigUint64(Ghcb.at.swScratch, scratch + BigInt(gpa), true);
      guest.poke(gpa, bytes, false);
      guest.poke(gpa + 0x800, act.buffer, false);
      guest.poke(gpa + Ghcb.at.ghcbUsage, Uint8Array.of(act.usage, 0, 0, 0), false);
      if (step({ op: 'wrmsr', index: GHCB_MSR, value: act.own ? gpa : gpa + 0x1000 }, act.vp) && machine.vp(act.vp).current === vmpl && step({ op: 'call', via: 'vmgexit' }, act.vp)) note('VMGEXIT through a page');
      return;
    }
    case 'msr':
      if (step({ op: 'wrmsr', index: GHCB_MSR, value: act.value }, act.vp) && step({ op: 'call', via: 'vmgexit' }, act.vp)) note('VMGEXIT through the MSR');
      return;
    case 'call':
      guest.poke(Svsm.area * PAGE_SIZE, Uint8Array.of(act.pending));
      guest.poke(Svsm.firmware * PAGE_SIZE, act.list);
      guest.poke(Svsm.vmsa * PAGE_SIZE, guest.vmsa(2));
      if (step({ op: 'wrmsr', index: GHCB_MSR, value: 0x16 }, act.vp) && step({ op: 'call', via: 'vmgexit', regs: { rax: act.rax, rcx: act.rcx, rdx: act.rdx, r8: act.r8 } }, act.vp)) note('SVSM call');
      return;
    case 'interrupt': {
      const context = machine.vp(act.vp).planes[act.vmpl];
      if (context) guest.arch.apicOf(context).accept(act.mode as 0, act.vector, true, false);
      break;
    }
    case 'area': {
      const plane = snp.chapters.switching.plane(machine.vp(act.vp), act.vmpl);
      // While a VMPL runs from it, nobody may write it: the guard of the page sees to that for guests.
      if (plane && !plane.isLive) guest.poke(vmsaPage(act.vp, act.vmpl) * PAGE_SIZE + act.offset, [act.value]);
      break;
    }
    case 'host':
      host(guest, act);
      break;
    case 'run':
      for (let i = 0; i < act.ticks && guest.tick(); i++);
      return;
  }
  guest.tick();
};

const host = ({ machine, snp }: FuzzGuest, { act, gpn, count, bits }: Extract<Act, { kind: 'host' }>): void => {
  const { rmp } = snp.chapters;
  switch (act) {
    case 'private':
    case 'shared':
      rmp.assign(gpn, count, act === 'private', (bits & 1) !== 0);
      return;
    case 'attribute':
      machine.memory.setPrivate(gpn, count, (bits & 1) !== 0);
      return;
    case 'smash':
      rmp.smash(gpn);
      return;
    case 'validate':
      rmp.validate(gpn, count > 1, (bits & 3) !== 0);
      return;
    case 'update':
      rmp.update(gpn, updateOperand(gpn, { assigned: bits & 1, pagesize: count > 1 ? 1 : 0, asid: (bits & 1) === 0 ? 0 : (bits & 2) !== 0 ? 1 : 2, immutable: bits === 15 ? 1 : 0 }));
  }
};

/** How a session ended: a hash of the whole state. */
export const play = (seed: number, acts: readonly Act[], checkOneIn: number, tally: Tally = emptyTally()): string => {
  const guest = new FuzzGuest(configOf(seed));
  const { machine } = guest;
  const checks = machine.checks!;
  acts.forEach((act, i) => {
    machine.checks = i % checkOneIn === 0 ? checks : null;
    if (machine.checks) checks.adopt();
    perform(guest, act, tally);
  });
  machine.checks = checks;
  checks.adopt();
  guest.tick();
  tally.sessions++;
  tally.acts += acts.length;
  tally.switches += guest.switches;
  tally.exits += guest.exits;
  tally.checks += checks.count;
  for (const [what, n] of guest.met) tally.met.set(what, (tally.met.get(what) ?? 0) + n);
  return createHash('sha256').update(serialize(machine.snapshot())).digest('hex');
};

const failureOf = (seed: number, acts: readonly Act[]): string | null => {
  try {
    play(seed, acts, 1);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};
/** Numbers differ from one failure to a smaller one of the same kind. */
const kindOf = (failure: string): string => failure.replaceAll(/0x[0-9a-f]+|0b[01]+|\d+/g, '#').slice(0, 80);

/** Leaves out halves, quarters and so on while the same kind of failure stays. */
const shrink = (seed: number, acts: readonly Act[], failure: string): readonly Act[] => {
  let kept = acts;
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < kept.length; ) {
      const fewer = [...kept.slice(0, at), ...kept.slice(at + size)];
      const now = failureOf(seed, fewer);
      if (now !== null && kindOf(now) === kindOf(failure)) kept = fewer;
      else at += size;
    }
  }
  return kept;
};
const show = (act: Act): string => JSON.stringify(act, (_key, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value instanceof Uint8Array ? Buffer.from(value).toString('hex').replace(/0+$/, '') : value));

/** Runs a session. @throws {Error} with the seed and the shortest list of acts that was found when anything goes wrong. */
export const runSession = (seed: number, count: number, checkOneIn: number, tally: Tally): string => {
  const acts = actsOf(seed, count);
  try {
    return play(seed, acts, checkOneIn, tally);
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const checked = failureOf(seed, acts);
    const few = checked === null ? acts : shrink(seed, acts, checked);
    throw new Error(`seed ${seed} ${JSON.stringify(configOf(seed))}: ${checked ?? message}\n${few.map(show).join('\n')}`, { cause: error });
  }
};
