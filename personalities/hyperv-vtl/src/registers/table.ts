import { HvAccess, HvCpuid, type HvRegisterName, HvStatus, registerOf, type RegisterRow, REGISTERS, VSM_PRIVILEGES } from '@vmplanes/abi-hyperv';
import type { SupportRow } from '@vmplanes/engine';
import { MASK_64, type RegisterAccess, type RegisterBinding, stored } from './binding.ts';
import { whyNoMsr } from '../msrs.ts';
import { holds } from '../privileges.ts';
import { eventRegisters } from './events.ts';
import { processorRegisters } from './processor.ts';
import { vsmRegisters } from './vsm.ts';

const { InvalidParameter, AccessDenied } = HvStatus;

/** A register that is a synthetic MSR, with the rules of its MSR. */
const alias = (index: number): RegisterBinding => ({
  read: ({ hv, target }) => hv.chapters.msrs.read(target, index),
  write: ({ hv, target }, value) => stored(hv.chapters.msrs.write(target, index, value & MASK_64)),
});
/** A register that shows a CPUID leaf: EAX, EBX, ECX, EDX from the low end. */
const leaf = (number: number): RegisterBinding => ({ read: ({ hv }) => hv.chapters.cpuid.leaf(number).reduceRight((value, word) => (value << 32n) | BigInt(word >>> 0), 0n) });

/** Leaf by register: after the version come the leaves from features on, in order. */
const leaves: Readonly<Partial<Record<HvRegisterName, RegisterBinding>>> = {
  HypervisorVersion: leaf(HvCpuid.Version),
  ...Object.fromEntries(
    (['PrivilegesAndFeaturesInfo', 'FeaturesInfo', 'ImplementationLimitsInfo', 'HardwareFeaturesInfo', 'CpuManagementFeaturesInfo', 'SvmFeaturesInfo', 'SkipLevelFeaturesInfo', 'NestedVirtFeaturesInfo', 'IptFeaturesInfo', 'IsolationConfiguration'] as const)
      .map((name, n) => [name, leaf(HvCpuid.Features + n)]),
  ),
};

const declared: Readonly<Partial<Record<HvRegisterName, RegisterBinding>>> = { ...processorRegisters, ...eventRegisters, ...vsmRegisters, ...leaves };
const bindingOf = (row: RegisterRow): RegisterBinding | undefined => declared[row.name] ?? (row.msr === undefined || whyNoMsr(row.msr) !== null ? undefined : alias(row.msr));
const bindings = new Map(REGISTERS.map((row) => [row.number, bindingOf(row)]));

const HOST = "the hypervisor's own, for the parent partition or an emulator there";
const NO_STATE = 'the processor has no such state';
/** Why registers are not served; those left out are not part of this processor. */
const whyNot: Readonly<Partial<Record<HvRegisterName, string>>> = {
  InstructionEmulationHints: HOST, DispatchSuspend: HOST, IntermediateCr0: HOST, IntermediateCr3: HOST, IntermediateCr4: HOST, IntermediateCr8: HOST,
  CpuManagementVersion: HOST, VpRootSignalCount: HOST, VpConfig: HOST, GuestSchedulerEvent: HOST, RegisterPage: HOST, TscVirtualOffset: HOST, TscVirtualMultiplier: HOST,
  EmulatedTimerPeriod: HOST, EmulatedTimerControl: HOST, PmTimerAssist: HOST,
  Ghcb: 'isolated virtual machines only', SevControl: 'isolated virtual machines only',
  ReferenceTscSequence: 'no public description of what a write does',
  VsmVpVtlControl: 'obsolete: superseded by the VP assist page, no public layout',
};

/** Rows of the support matrix, one for each register. */
export const registerSupport: readonly SupportRow[] = REGISTERS.map((row) => {
  const common = { kind: 'register', name: row.name, code: `0x${row.number.toString(16)}`, spec: 'TLFS HV_REGISTER_NAME' };
  return bindingOf(row) === undefined ? { ...common, support: 'no', note: whyNot[row.name] ?? (row.msr === undefined ? NO_STATE : whyNoMsr(row.msr)!) } : { ...common, support: 'yes' };
});

/** First number of the registers of execution, and of those of the hypervisor behind the processor's. */
const EXECUTION = { from: 0x0001_0000, to: 0x0008_ffff } as const;
const VSM = { from: 0x000d_0000, to: 0x000d_00ff } as const;

const isWithin = (number: number, { from, to }: { readonly from: number; readonly to: number }): boolean => number >= from && number <= to;

/**
 * Finds the register of an access and checks what holds for every register.
 * @returns its binding, or a status.
 */
const lookup = ({ hv, target, caller }: Omit<RegisterAccess, 'row'>, number: number): { readonly row: RegisterRow; readonly binding: RegisterBinding } | number => {
  const row = registerOf(number);
  const binding = bindings.get(number);
  if (row === undefined || binding === undefined) return InvalidParameter;
  if (isWithin(number, VSM) && caller.plane === 0 && !VSM_PRIVILEGES.every((privilege) => holds(hv.options, privilege))) return AccessDenied;
  if (hv.options.strictSelfRegs && isWithin(number, EXECUTION) && target.plane === caller.plane && target.vp === caller.vp) return AccessDenied;
  if (target.plane < row.minVtl) return number >>> 16 === 0xe ? AccessDenied : InvalidParameter;
  return { row, binding };
};

/** Reads a register. @returns its value, or a status as a number. @spec TLFS HvCallGetVpRegisters */
export const readHvRegister = (access: Omit<RegisterAccess, 'row'>, number: number): bigint | number => {
  const found = lookup(access, number);
  if (typeof found === 'number') return found;
  const { row, binding } = found;
  if (row.access === HvAccess.WriteOnly) return InvalidParameter;
  return binding.read?.({ ...access, row }) ?? InvalidParameter;
};

/** Writes a register. @returns a status. @spec TLFS HvCallSetVpRegisters */
export const writeHvRegister = (access: Omit<RegisterAccess, 'row'>, number: number, value: bigint): number => {
  const found = lookup(access, number);
  if (typeof found === 'number') return found;
  const { row, binding } = found;
  if (row.access === HvAccess.ReadOnly || binding.write === undefined) return InvalidParameter;
  const { checks } = access.hv.machine;
  checks?.authorise(access.target);
  // A shared register lies with the VTL that runs there.
  checks?.authorise(access.target.vp.context);
  return binding.write({ ...access, row }, value);
};
