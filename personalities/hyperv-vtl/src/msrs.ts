import { HvAccess, HvMsr, type HvMsrName, HvScope, msrOf, msrReservedMask, type MsrRow, MSRS } from '@vmplanes/abi-hyperv';
import { type Answer, MAX_PLANES, type PlainRecord, type PlainState, type PlaneContext, type SupportRow } from '@vmplanes/engine';
import type { MsrExit } from '@vmplanes/x86';
import { readIcr, readTpr, writeEoi, writeIcr, writeTpr } from './apic-msrs.ts';
import { CrashRegisters } from './crash.ts';
import type { HvContext, Msrs } from './ports.ts';
import { holds } from './privileges.ts';

const GENERAL_PROTECTION = 13;
const RESET = 1n;

/** What a register does, one side absent where nothing can be read or written. */
interface Binding {
  readonly read?: (hv: HvContext, context: PlaneContext, own: MsrChapter) => bigint;
  /** @returns false when the value is #GP. */
  readonly write?: (hv: HvContext, context: PlaneContext, value: bigint, own: MsrChapter) => boolean | void;
  /** A write with reserved bits is #GP; else they are kept or mean nothing. */
  readonly strict?: true;
  /** An access that does more than move a value: its answer, or null to go on with `read` and `write`. */
  readonly answer?: (hv: HvContext, context: PlaneContext, write: boolean, value: bigint, own: MsrChapter) => Answer | null;
}

/** A register that only keeps its value, for each of its instances. */
const kept = (name: HvMsrName, strict = true): Binding => ({
  read: (_hv, context, own) => own.keptValue(name, context),
  write: (_hv, context, value, own) => own.keep(name, context, value),
  ...(strict ? { strict } : {}),
});
const crashParameter = (n: number): Binding => ({ read: (_hv, _c, own) => own.crash.parameter(n), write: (_hv, _c, value, own) => own.crash.setParameter(n, value) });
const sint = (n: number): Binding => ({ read: ({ chapters }, c) => chapters.synic.sint(c, n), write: ({ chapters }, c, value) => chapters.synic.setSint(c, n, value) });
const timerConfig = (n: number): Binding => ({ read: ({ chapters }, c) => chapters.timers.config(c, n), write: ({ chapters }, c, value) => chapters.timers.setConfig(c, n, value) });
const timerCount = (n: number): Binding => ({ read: ({ chapters }, c) => chapters.timers.count(c, n), write: ({ chapters }, c, value) => chapters.timers.setCount(c, n, value) });
/** Not served: why. */
const unsupported = (why: string): string => why;
const NO_STATISTICS = 'no statistics pages are kept, and their layout is not public';
const NO_DEBUGGER = 'no debugger is attached to the hypervisor';

/** Behaviour of every synthetic MSR; number, scope, access, privilege and source of each are declared with the interface. */
const bindings: Readonly<Record<HvMsrName, Binding | string>> = {
  GuestOsId: { read: ({ chapters }, c) => chapters.hypercalls.guestOsId(c.plane), write: ({ chapters }, c, value) => chapters.hypercalls.setGuestOsId(c.plane, value) },
  Hypercall: { read: ({ chapters }, c) => chapters.hypercalls.hypercallMsr(c.plane), write: ({ chapters }, c, value) => chapters.hypercalls.setHypercallMsr(c.plane, value) },
  VpIndex: { read: (_hv, c) => BigInt(c.vp.index) },
  Reset: { read: () => 0n, write: () => true, answer: (hv, c, write, value) => (write && (value & RESET) !== 0n ? hv.resetPartition(c) : null) },
  VpRuntime: { read: ({ chapters }, c) => chapters.clocks.runtime(c.vp) },
  TimeRefCount: { read: ({ chapters }, c) => chapters.clocks.now(c.vp) },
  ReferenceTsc: { read: ({ chapters }, c) => chapters.clocks.tscMsr(c.plane), write: ({ chapters }, c, value) => chapters.clocks.setTscMsr(c.plane, value) },
  TscFrequency: { read: ({ chapters }) => chapters.clocks.tscFrequency() },
  ApicFrequency: { read: ({ chapters }) => chapters.clocks.apicFrequency() },
  NpiepConfig: kept('NpiepConfig'),
  Eoi: { write: (hv, c) => writeEoi(hv, c) },
  Icr: { read: readIcr, write: writeIcr },
  Tpr: { read: readTpr, write: writeTpr, strict: true },
  VpAssistPage: { read: ({ chapters }, c) => chapters.assist.msr(c), write: ({ chapters }, c, value) => chapters.assist.setMsr(c, value) },
  Scontrol: { read: ({ chapters }, c) => chapters.synic.scontrol(c), write: ({ chapters }, c, value) => chapters.synic.setScontrol(c, value) },
  Sversion: { read: () => msrOf(HvMsr.Sversion)!.reset! },
  Siefp: { read: ({ chapters }, c) => chapters.synic.siefp(c), write: ({ chapters }, c, value) => chapters.synic.setSiefp(c, value) },
  Simp: { read: ({ chapters }, c) => chapters.synic.simp(c), write: ({ chapters }, c, value) => chapters.synic.setSimp(c, value) },
  Eom: { read: () => 0n, write: ({ chapters }, c) => chapters.synic.retry(c) },
  Sirbp: unsupported('no public description of the page it names'),
  Sint0: sint(0), Sint1: sint(1), Sint2: sint(2), Sint3: sint(3), Sint4: sint(4), Sint5: sint(5), Sint6: sint(6), Sint7: sint(7),
  Sint8: sint(8), Sint9: sint(9), Sint10: sint(10), Sint11: sint(11), Sint12: sint(12), Sint13: sint(13), Sint14: sint(14), Sint15: sint(15),
  Stimer0Config: timerConfig(0), Stimer1Config: timerConfig(1), Stimer2Config: timerConfig(2), Stimer3Config: timerConfig(3),
  Stimer0Count: timerCount(0), Stimer1Count: timerCount(1), Stimer2Count: timerCount(2), Stimer3Count: timerCount(3),
  StatsPartitionRetailPage: unsupported(NO_STATISTICS), StatsPartitionInternalPage: unsupported(NO_STATISTICS), StatsVpRetailPage: unsupported(NO_STATISTICS), StatsVpInternalPage: unsupported(NO_STATISTICS),
  GuestIdle: { answer: ({ arch, chapters }, c, write) => {
    if (write) return null;
    arch.registers.setEdxEax(c, 0, 0);
    return chapters.clocks.idle(c);
  } },
  SyntheticDebugControl: unsupported(NO_DEBUGGER), SyntheticDebugStatus: unsupported(NO_DEBUGGER), SyntheticDebugSendBuffer: unsupported(NO_DEBUGGER),
  SyntheticDebugReceiveBuffer: unsupported(NO_DEBUGGER), SyntheticDebugPendingBuffer: unsupported(NO_DEBUGGER), DebugDeviceOptions: unsupported(NO_DEBUGGER),
  GuestCrashP0: crashParameter(0), GuestCrashP1: crashParameter(1), GuestCrashP2: crashParameter(2), GuestCrashP3: crashParameter(3), GuestCrashP4: crashParameter(4),
  GuestCrashCtl: { read: (_hv, _c, own) => own.crash.control, write: () => true, answer: (_hv, c, write, value, own) => {
    const payload = write ? own.crash.notification(c, value) : null;
    return payload === null ? null : c.vp.replies.exit(payload);
  } },
  // A machine that is moved keeps its counter frequency, so these three are never acted on.
  ReenlightenmentControl: kept('ReenlightenmentControl', false),
  TscEmulationControl: kept('TscEmulationControl'),
  TscEmulationStatus: kept('TscEmulationStatus'),
  StimeUnhaltedTimerConfig: unsupported('how it accounts the time of several VTLs is not public'),
  StimeUnhaltedTimerCount: unsupported('how it accounts the time of several VTLs is not public'),
  // Once the guest has asked to see that the counter is invariant it sees it until a reset.
  TscInvariantControl: { read: (_hv, c, own) => own.keptValue('TscInvariantControl', c), write: (_hv, c, value, own) => value >= own.keptValue('TscInvariantControl', c) && own.keep('TscInvariantControl', c, value), strict: true },
};

const bindingOf = (name: HvMsrName): Binding | null => {
  const bound = bindings[name];
  return typeof bound === 'string' ? null : bound;
};

/** Why an MSR is not served; null when it is. */
export const whyNoMsr = (index: number): string | null => {
  const row = msrOf(index);
  const bound = row === undefined ? 'there is no such MSR' : bindings[row.name];
  return typeof bound === 'string' ? bound : null;
};

/** Rows of the support matrix, one for each synthetic MSR. */
export const msrSupport: readonly SupportRow[] = MSRS.map((row) => {
  const bound = bindings[row.name];
  const common = { kind: 'msr', name: row.name, code: `0x${row.index.toString(16)}`, spec: row.spec };
  return typeof bound === 'string' ? { ...common, support: 'no', note: bound } : { ...common, support: 'yes' };
});

const instanceOf = (row: MsrRow, { vp, plane }: PlaneContext): string => {
  const byVp = row.scope === HvScope.Vp || row.scope === HvScope.VpVtl ? vp.index : 0;
  const byVtl = row.scope === HvScope.VpVtl || row.scope === HvScope.PartitionVtl ? plane : 0;
  return `${row.name}:${byVp * MAX_PLANES + byVtl}`;
};

/** The synthetic MSRs: finds the row, checks privilege, access and reserved bits, and hands over. @spec TLFS, Synthetic MSRs (appendix) */
export class MsrChapter implements Msrs {
  readonly stateName = 'msrs';
  readonly crash: CrashRegisters;
  /** Rows that this partition may use. */
  readonly #usable: ReadonlyMap<number, MsrRow>;
  readonly #kept = new Map<string, bigint>();

  constructor(readonly hv: HvContext) {
    this.crash = new CrashRegisters(hv);
    this.#usable = new Map(MSRS.filter((row) => row.privilege === undefined || holds(hv.options, row.privilege)).map((row) => [row.index, row]));
  }

  access(context: PlaneContext, exit: MsrExit): Answer {
    const { replies } = context.vp;
    const value = (BigInt(exit.hi >>> 0) << 32n) | BigInt(exit.lo >>> 0);
    const row = this.#usable.get(exit.key) ?? null;
    if (row !== null && exit.write) this.hv.machine.hooks.trace?.note(context, 'hv-msr', { name: row.name, value });
    const special = row === null ? null : (bindingOf(row.name)?.answer?.(this.hv, context, exit.write, value, this) ?? null);
    if (special !== null) return special;
    if (exit.write) return this.write(context, exit.key, value) ? replies.resume() : replies.fault(GENERAL_PROTECTION, 0);
    const read = this.read(context, exit.key);
    if (read === null) return replies.fault(GENERAL_PROTECTION, 0);
    this.hv.arch.registers.setEdxEax(context, Number(read & 0xffff_ffffn), Number(read >> 32n));
    return replies.resume();
  }

  read(context: PlaneContext, index: number): bigint | null {
    const row = this.#usable.get(index);
    if (row === undefined || row.access === HvAccess.WriteOnly) return null;
    return bindingOf(row.name)?.read?.(this.hv, context, this) ?? null;
  }

  write(context: PlaneContext, index: number, value: bigint): boolean {
    const row = this.#usable.get(index);
    const bound = row === undefined ? null : bindingOf(row.name);
    if (row === undefined || row.access === HvAccess.ReadOnly || !bound?.write) return false;
    if (bound.strict && (value & msrReservedMask(row)) !== 0n) return false;
    return bound.write(this.hv, context, value, this) !== false;
  }

  keptValue(name: HvMsrName, context: PlaneContext): bigint {
    return this.#kept.get(instanceOf(msrOf(HvMsr[name])!, context)) ?? 0n;
  }
  keep(name: HvMsrName, context: PlaneContext, value: bigint): true {
    this.#kept.set(instanceOf(msrOf(HvMsr[name])!, context), value);
    return true;
  }
  isTscInvariantShown(context: PlaneContext): boolean {
    return !holds(this.hv.options, 'accessTscInvariantControls') || this.keptValue('TscInvariantControl', context) !== 0n;
  }

  reset(): void {
    this.#kept.clear();
    this.crash.reset();
  }
  save(): PlainState {
    return { kept: [...this.#kept], crash: this.crash.save() };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.#kept.clear();
    for (const [key, value] of s['kept'] as readonly (readonly [string, bigint])[]) this.#kept.set(key, value);
    this.crash.restore(s['crash']!);
  }
}
