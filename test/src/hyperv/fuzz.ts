import { createHash } from 'node:crypto';
import { serialize } from 'node:v8';
import { callName } from '@vmplanes/abi-hyperv';
import { Activity } from '@vmplanes/engine';
import { profiles } from '@vmplanes/personality-hyperv-vtl';
import { type Act, Acts } from './fuzz-acts.ts';
import { policies, type Policy } from './bench.ts';
import { booted, type Guest, ready, VP_SELF } from './guest.ts';

/** One random guest. Its policy, profile and options follow from its seed. */
export interface Session {
  readonly seed: number;
  readonly policy: Policy;
  readonly profile: string;
  readonly maximumVtl: number;
  readonly mbec: boolean;
  /** VTLs that are set up before the random part: 0, 1 or 2. */
  readonly prepared: number;
}

/** What sessions did, so that a test can see that they did something. */
export interface Tally {
  sessions: number;
  acts: number;
  /** Steps that the guests were given, and those that they did. */
  given: number;
  done: number;
  faults: number;
  switches: number;
  exits: number;
  checks: number;
  /** Calls that succeeded, by code. */
  readonly succeeded: Map<number, number>;
}
export const emptyTally = (): Tally => ({ sessions: 0, acts: 0, given: 0, done: 0, faults: 0, switches: 0, exits: 0, checks: 0, succeeded: new Map() });

/** The tally in a line. */
export const summaryOf = ({ succeeded, ...counts }: Tally): string =>
  `${Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(', ')}; succeeded: ${[...succeeded].sort(([a], [b]) => a - b).map(([code, n]) => `${callName(code)} ${n}`).join(', ')}`;

const VPS = 2;
/** Ticks that a step may take before the next act. */
const PATIENCE = 4;
const profileNames = Object.keys(profiles);

export const sessionOf = (seed: number): Session => {
  const maximumVtl = 1 + ((seed >>> 1) & 1);
  return { seed, policy: policies[seed & 1]!, profile: profileNames[(seed >>> 2) % profileNames.length]!, maximumVtl, mbec: seed % 5 === 0, prepared: seed % 7 === 0 ? 0 : seed % 3 === 0 ? 1 : maximumVtl };
};

const ports = [
  { connectionId: 1, kind: 'message', vp: 0, vtl: 0, sint: 0, baseFlag: 0, flagCount: 2048, minConnectionVtl: 0 },
  { connectionId: 2, kind: 'event', vp: 1, vtl: 1, sint: 0, baseFlag: 0, flagCount: 64, minConnectionVtl: 0 },
] as const;

/** Switches that no profile has and that open more ways into a VTL. */
const moreWays = { installInterceptCaller: 'higherVtlAll', startStartedVp: 'restart' } as const;

const build = ({ seed, policy, profile, maximumVtl, mbec, prepared }: Session): Guest => {
  const config = { vps: VPS, policy, options: { profile, maximumVtl, mbec, ports, repBudget: 300, ...(seed % 4 >= 2 ? moreWays : {}) } };
  if (prepared === 0) return booted(config);
  const guest = ready(config);
  if (prepared < 2) return guest;
  guest.enter();
  guest.enablePartitionVtl(2);
  guest.enableVpVtl(VP_SELF, 2);
  for (let vp = 0; vp < VPS; vp++) {
    if (vp > 0) guest.enter(vp);
    guest.enter(vp);
    if (vp === 0) {
      guest.openInterface();
      guest.enableVpVtl(1, 2);
    }
    guest.openApic(vp);
    guest.openSynic(vp);
    guest.leave(vp);
    guest.leave(vp);
  }
  return guest;
};

/** How a session is run. */
export interface Watch {
  /** One of so many acts is made under all invariants; 1 for all. */
  readonly checkOneIn: number;
}

/** How a session ended. */
export interface End {
  /** Of the whole state. */
  readonly hash: string;
  /** What the guest can tell of it: switches and interrupts taken, in order, and instructions done. */
  readonly seen: string;
}

/** Makes a list of acts in a new machine. @throws what the machine throws. */
export const play = (session: Session, acts: readonly Act[], watch: Watch, tally: Tally = emptyTally()): End => {
  const guest = build(session);
  const { machine } = guest;
  const checks = machine.checks!;
  acts.forEach((act, i) => {
    if (i % watch.checkOneIn === 0) {
      checks.adopt();
      machine.checks = checks;
    } else machine.checks = null;
    perform(guest, act, tally);
  });
  machine.checks = checks;
  checks.adopt();
  guest.run(PATIENCE);
  tally.sessions++;
  tally.acts += acts.length;
  tally.checks += checks.count;
  tally.exits += guest.exits.length;
  tally.switches += guest.switches.reduce((n, s) => n + s.length, 0);
  const seen = machine.vps.map((vp, i) => `VP ${i}: ${vp.retired} instructions; ${guest.switches[i]!.join(', ')}; ${vp.planes.map((c) => (c ? `VTL${c.plane} took ${guest.taken(i, c.plane).join(' ')}` : '')).join(';')}`);
  return { hash: createHash('sha256').update(serialize(machine.snapshot())).digest('hex'), seen: seen.join('\n') };
};

/** What a VMM and an operator do for a VP that goes on by itself no more: an instruction that nobody can do is skipped, a halt is ended. */
const help = (guest: Guest, vp: number): void => {
  const { context, exit } = guest.machine.vp(vp);
  if (context.activity === Activity.Halted) guest.nmi(vp, context.plane);
  else if (context.activity === Activity.Running && exit?.kind === 'memoryFault' && context.completion === null) guest.set({ rip: guest.get('rip', vp) + 3n }, vp);
};

const perform = (guest: Guest, act: Act, tally: Tally): void => {
  const { machine } = guest;
  switch (act.kind) {
    case 'step': {
      const vtl = guest.active(act.vp);
      if (act.bytes !== null) guest.poke(vtl, act.at, act.bytes);
      if (act.wide !== null) guest.set(act.wide, act.vp);
      tally.given++;
      const { result } = guest.attempt(act.step, act.vp, PATIENCE);
      if (result === null) {
        help(guest, act.vp);
        return;
      }
      tally.done++;
      if (result.fault !== null) tally.faults++;
      else if (act.step.op === 'call' && (result.rax & 0xffffn) === 0n) {
        const code = Number(BigInt(act.step.regs?.rcx ?? 0) & 0xffffn);
        tally.succeeded.set(code, (tally.succeeded.get(code) ?? 0) + 1);
      }
      return;
    }
    case 'interrupt':
      if (machine.vp(act.vp).planes[act.vtl]) guest.interrupt(act.vector, act.vp, act.vtl);
      break;
    case 'nmi':
      if (machine.vp(act.vp).planes[act.vtl]) guest.nmi(act.vp, act.vtl);
      break;
    case 'run':
      guest.run(act.ticks);
      return;
  }
  guest.run(1);
};

export const actsOf = (seed: number, count: number): Act[] => {
  const source = new Acts(seed);
  return Array.from({ length: count }, () => source.next());
};

const failureOf = (session: Session, acts: readonly Act[]): string | null => {
  try {
    play(session, acts, { checkOneIn: 1 });
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};

/** Numbers differ from one failure to a smaller one of the same kind. */
const kindOf = (failure: string): string => failure.replaceAll(/0x[0-9a-f]+|0b[01]+|\d+/g, '#').slice(0, 80);

/** Leaves out halves, quarters and so on while the same kind of failure stays. */
export const shrink = (session: Session, acts: readonly Act[], failure: string): readonly Act[] => {
  let kept = acts;
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < kept.length; ) {
      const fewer = [...kept.slice(0, at), ...kept.slice(at + size)];
      const now = failureOf(session, fewer);
      if (now !== null && kindOf(now) === kindOf(failure)) kept = fewer;
      else at += size;
    }
  }
  return kept;
};

const show = (act: Act): string =>
  JSON.stringify(act, (_key, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value));

/** Runs a session. @throws {Error} with the seed and the shortest list of acts that was found when anything goes wrong. */
export const runSession = (seed: number, count: number, watch: Watch, tally: Tally, policy?: Policy): End => {
  const session = { ...sessionOf(seed), ...(policy ? { policy } : {}) };
  const acts = actsOf(seed, count);
  try {
    return play(session, acts, watch, tally);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const checked = failureOf(session, acts);
    const few = checked === null ? acts : shrink(session, acts, checked);
    throw new Error(`${JSON.stringify(session)}: ${checked ?? message}\n${few.map(show).join('\n')}`, { cause: error });
  }
};
