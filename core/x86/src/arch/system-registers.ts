import { type Answer, type CpuExit, HostError, type PlainRecord, type PlainState, type PlaneContext, type Stateful, type Vp } from '@vmplanes/engine';
import { isApicMsr, readMsr as readApicMsr, writeMsr as writeApicMsr } from '../apic/index.ts';
import { type CpuidExit, type MsrExit, type RegisterExit, RegisterKey } from '../exits.ts';
import { AddressModel } from '../mmu/index.ts';
import { X86 } from '../state/layout.ts';
import { readRegister, writeRegister } from '../state/registers.ts';
import { deriveFeatures, type CpuFeatures } from '../sys/features.ts';
import { buildCpuid, cpuModels, resolveCpuModel, type ResolvedCpuModel } from '../sys/cpu-models.ts';
import { CpuidOverlays, type CpuidState, CpuidTable, executeCpuid } from '../sys/cpuid.ts';
import { type ControlState, legalizeCr0, legalizeCr3, legalizeCr4, legalizeCr8, legalizeDr7, legalizeXcr0, withLma } from '../sys/control.ts';
import { isFault, type Legalized } from '../sys/fault.ts';
import { type MsrAccess, MsrFilter, type MsrFilterDeclaration, MsrFilterDirection, type MsrRefusal, MsrTable, readControlState, msrRows } from '../sys/index.ts';
import type { X86Arch } from './x86-arch.ts';

const GENERAL_PROTECTION = 13;
const TSC = 0x10;
const TSC_ADJUST = 0x3b;
const U32 = 0xffff_ffffn;
const DEFAULT_APIC_COUNT = 64;

const join = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/** Refused MSR accesses that the VMM answers. */
export interface MsrExits {
  readonly unknown: boolean;
  readonly invalid: boolean;
  readonly filter: boolean;
}

/** CPUID, MSRs and control registers of all planes of a machine: tables, and the answers to exits about them. */
export class SystemRegisters implements Stateful {
  readonly stateName = 'x86.system';
  readonly stateVersion = 1;
  readonly features: CpuFeatures;
  #addressModel: AddressModel;
  /** Bits that CR3 may carry beside an address. */
  #cr3Marks = 0n;
  readonly msrs = new MsrTable<MsrAccess>(msrRows);
  readonly overlays = new CpuidOverlays();
  readonly #arch: X86Arch;
  readonly #model: ResolvedCpuModel;
  /** By VP; made when the VP is first asked about. */
  readonly #tables: CpuidTable[] = [];
  #filter: MsrFilter | null = null;
  #msrExits: MsrExits;
  #busLockExits: boolean;
  readonly #out = new Uint32Array(4);

  constructor(arch: X86Arch) {
    this.#arch = arch;
    const { cpuModel, unknownMsr, invalidMsr, busLock } = arch.config;
    this.#msrExits = { unknown: unknownMsr === 'exit', invalid: invalidMsr === 'exit', filter: true };
    this.#busLockExits = busLock.exits;
    const model = cpuModels.find((m) => m.name === cpuModel);
    if (!model) throw new HostError('BadConfig', `no CPU model '${cpuModel}'; there are ${cpuModels.map((m) => m.name).join(', ')}`);
    this.#model = resolveCpuModel(model);
    this.features = deriveFeatures(buildCpuid(this.#model, { apicId: 0, vpCount: 1 }));
    this.#addressModel = new AddressModel(this.features.physicalBits, this.features.page1Gb, this.features.pse36);
  }

  get addressModel(): AddressModel {
    return this.#addressModel;
  }
  /** A bit that page-table entries and CR3 carry beside an address. @param bit - 32..51. */
  setAddressMark(bit: number): void {
    const { physicalBits, page1Gb, pse36 } = this.features;
    this.#addressModel = new AddressModel(physicalBits, page1Gb, pse36, bit);
    this.#cr3Marks = 1n << BigInt(bit);
  }

  // -- CPUID ---------------------------------------------------------------------------------------------------------

  /** The table of a VP: one for all its planes. */
  table(vp: Vp): CpuidTable {
    let table = this.#tables[vp.index];
    if (!table) {
      const vpCount = Math.min(this.#arch.machine.options.maxVps, DEFAULT_APIC_COUNT);
      table = buildCpuid(this.#model, { apicId: this.#arch.fabric.apicId(vp.index), vpCount });
      this.#tables[vp.index] = table;
    }
    return table;
  }
  setTable(vp: Vp, table: CpuidTable): void {
    this.#tables[vp.index] = table;
  }

  /** CPUID of a plane with its dynamic bits; `out` receives EAX, EBX, ECX, EDX. */
  executeCpuid(context: PlaneContext, leaf: number, subleaf: number, out: Uint32Array): void {
    executeCpuid(this.#arch.machine.arena, context.base, this.table(context.vp), this.overlays, leaf >>> 0, subleaf >>> 0, this.#arch.apicOf(context).isHardwareEnabled, out);
  }

  /** Answers a CPUID exit into the registers of the plane. */
  cpuid(context: PlaneContext, exit: CpuidExit): void {
    const out = this.#out;
    this.executeCpuid(context, exit.key, exit.subleaf, out);
    const { u32 } = this.#arch.machine.arena;
    const word = context.base >>> 2;
    const put = (offset: number, value: number): void => {
      u32[word + offset / 4] = value;
      u32[word + offset / 4 + 1] = 0;
    };
    put(X86.rax, out[0]!);
    put(X86.rbx, out[1]!);
    put(X86.rcx, out[2]!);
    put(X86.rdx, out[3]!);
  }

  // -- MSRs ----------------------------------------------------------------------------------------------------------

  /** Every access of a guest passes it first, whoever serves the MSR. @spec Linux Documentation/virt/kvm/api.rst §4.97; Linux arch/x86/kvm/x86.c kvm_get_msr_with_filter */
  setFilter(filter: MsrFilter | null): void {
    this.#filter = filter;
    this.screen = filter === null ? null : this.#screen;
  }
  /** What looks at exits before whoever claims them: the filter, while there is one. */
  screen: ((context: PlaneContext, exit: CpuExit) => Answer | null) | null = null;
  readonly #screen = (context: PlaneContext, exit: CpuExit): Answer | null => {
    if (exit.kind !== 'msr') return null;
    const { write } = exit as MsrExit;
    const isRefused = this.#filter?.check(exit.key, write ? MsrFilterDirection.write : MsrFilterDirection.read) === 'filter';
    return isRefused ? this.#refuse(context, exit as MsrExit, 'filter') : null;
  };

  /** Which refused MSR accesses leave to the VMM; the others are #GP in the guest. */
  get msrExits(): MsrExits {
    return this.#msrExits;
  }
  set msrExits(exits: MsrExits) {
    this.#msrExits = exits;
  }
  /** Every bus lock exits to the VMM. */
  get busLockExits(): boolean {
    return this.#busLockExits;
  }
  set busLockExits(on: boolean) {
    this.#busLockExits = on;
  }

  /** An access to the block that holds the VP's value of the MSR: a shared one of a stopped plane lies with the current plane. */
  #access(context: PlaneContext, index: number, byHost: boolean): MsrAccess {
    const { machine } = this.#arch;
    const cell = this.msrs.lookup(index)?.cell;
    return { arena: machine.arena, base: cell === undefined ? context.base : machine.blockOf(context, cell), features: this.features, byHost, machineTicks: BigInt(Math.floor(machine.timeOf(context.vp))) };
  }

  /** @param byHost - the VMM reads state: features and direction are not checked. */
  readMsr(context: PlaneContext, index: number, byHost: boolean): bigint | MsrRefusal {
    if (isApicMsr(index)) {
      const out = this.#out;
      return readApicMsr(this.#arch.apicOf(context), index, out) ? join(out[0]!, out[1]!) : 'invalid';
    }
    return this.msrs.read(this.#access(context, index, byHost), index);
  }

  writeMsr(context: PlaneContext, index: number, value: bigint, byHost: boolean): 'ok' | MsrRefusal {
    const apic = this.#arch.apicOf(context);
    if (!isApicMsr(index)) {
      const movesTsc = index === TSC || index === TSC_ADJUST;
      if (movesTsc) apic.timer.settle();
      const done = this.msrs.write(this.#access(context, index, byHost), index, value);
      if (movesTsc && done === 'ok') {
        // A deadline is a value of the counter: it comes earlier or later now.
        apic.timer.tscChanged();
        apic.port.changed(apic);
      }
      return done;
    }
    const done = index === 0x1b ? apic.writeApicBase(Number(value & U32), Number(value >> 32n), byHost) : writeApicMsr(apic, index, Number(value & U32), Number(value >> 32n));
    return done ? 'ok' : 'invalid';
  }

  /** Answers an MSR exit: the table, then what the configuration says of refusals. */
  msr(context: PlaneContext, exit: MsrExit): Answer {
    const { key, write } = exit;
    if (write) {
      const done = this.writeMsr(context, key, join(exit.lo, exit.hi), false);
      if (done !== 'ok') return this.#refuse(context, exit, done);
    } else {
      const value = this.readMsr(context, key, false);
      if (typeof value !== 'bigint') return this.#refuse(context, exit, value);
      this.setEdxEax(context, Number(value & U32), Number(value >> 32n));
    }
    return context.vp.replies.resume();
  }

  #refuse(context: PlaneContext, exit: MsrExit, reason: keyof MsrExits): Answer {
    const { replies } = context.vp;
    if (!this.#msrExits[reason]) return replies.fault(GENERAL_PROTECTION, 0);
    const { key, write, lo, hi } = exit;
    const payload = { kind: 'msr', write, index: key, lo, hi, reason };
    return replies.exit(payload, { owner: 'arch', kind: write ? 'wrmsr' : 'rdmsr', data: {}, reply: null });
  }

  setEdxEax(context: PlaneContext, lo: number, hi: number): void {
    const { u32 } = this.#arch.machine.arena;
    const word = context.base >>> 2;
    u32[word + X86.rax / 4] = lo;
    u32[word + X86.rax / 4 + 1] = 0;
    u32[word + X86.rdx / 4] = hi;
    u32[word + X86.rdx / 4 + 1] = 0;
  }

  // -- control registers ---------------------------------------------------------------------------------------------

  /** Answers a write to a control or debug register: legal values are stored, others are #GP(0). */
  move(context: PlaneContext, exit: RegisterExit): Answer {
    const { replies } = context.vp;
    return this.writeControl(context, exit.key as RegisterKey, join(exit.lo, exit.hi)) ? replies.resume() : replies.fault(GENERAL_PROTECTION, 0);
  }

  /** @returns false when the value is not legal; nothing changed then. */
  writeControl(context: PlaneContext, key: RegisterKey, value: bigint): boolean {
    const { arena } = this.#arch.machine;
    const { base } = context;
    const state = readControlState({ arena, base });
    const store = (legal: Legalized, name: 'cr0' | 'cr2' | 'cr3' | 'cr4' | 'dr7' | 'xcr0'): boolean => {
      if (isFault(legal)) return false;
      writeRegister(arena, this.#arch.machine.blockOf(context, name), name, legal.value);
      return true;
    };
    switch (key) {
      case RegisterKey.Cr0:
        if (!store(legalizeCr0(value, state), 'cr0')) return false;
        writeRegister(arena, base, 'efer', withLma(state.efer, readRegister(arena, base, 'cr0')));
        return true;
      case RegisterKey.Cr2:
        return store({ value }, 'cr2');
      case RegisterKey.Cr3:
        return store(this.#legalCr3(value, state), 'cr3');
      case RegisterKey.Cr4:
        return store(legalizeCr4(value, state, this.features), 'cr4');
      case RegisterKey.Cr8:
        if (isFault(legalizeCr8(value))) return false;
        this.#arch.apicOf(context).setCr8(Number(value));
        return true;
      case RegisterKey.Dr7:
        return store(legalizeDr7(value), 'dr7');
      case RegisterKey.Xcr0:
        return store(legalizeXcr0(value, this.features), 'xcr0');
      default:
        // Descriptor tables and the rest are stored by the instruction itself; who wants to see them claims them.
        return true;
    }
  }

  #legalCr3(value: bigint, state: ControlState): Legalized {
    const marks = value & this.#cr3Marks;
    const legal = legalizeCr3(value ^ marks, state, this.features);
    return isFault(legal) ? legal : { value: legal.value | marks };
  }

  save(): PlainState {
    return { msrExits: { ...this.#msrExits }, busLockExits: this.#busLockExits, filter: this.#filter?.declaration ?? null, tables: this.#tables.map((t) => t?.save() ?? null) };
  }
  restore(state: PlainState): void {
    const s = state as PlainRecord;
    this.#msrExits = { ...(s['msrExits'] as { unknown: boolean; invalid: boolean; filter: boolean }) };
    this.#busLockExits = s['busLockExits'] as boolean;
    const declared = s['filter'] as MsrFilterDeclaration | null;
    const filter = declared === null ? null : MsrFilter.create(declared);
    if (typeof filter === 'string') throw new HostError('BadSnapshot', `MSR filter: ${filter}`);
    this.setFilter(filter);
    this.#tables.length = 0;
    (s['tables'] as readonly (CpuidState | null)[]).forEach((t, i) => {
      if (t !== null) this.#tables[i] = CpuidTable.restore(t);
    });
  }
}
