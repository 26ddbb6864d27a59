import { type Call, CALLS, type Dispute, DISPUTES, HvCall, HvPartitionPrivilegeMask, HvRegisterVsmPartitionConfig } from '@vmplanes/abi-hyperv';
import { hex } from '@vmplanes/binary';
import type { SupportRow } from '@vmplanes/engine';
import { bindings } from './calls.ts';
import { WRITABLE } from './partition-config.ts';
import { leafSupport } from './cpuid.ts';
import { msrSupport } from './msrs.ts';
import { registerSupport } from './registers/table.ts';
import { servedPrivileges } from './privilege-names.ts';

const row = (kind: string, name: string, code: string, spec: string, why: string | null): SupportRow => ({ kind, name, code, spec, support: why === null ? 'yes' : 'no', ...(why === null ? {} : { note: why }) });

const whyNot = new Map(bindings.flatMap((b) => (b.kind === 'unsupported' ? [[b.call.code, b.reason] as const] : [])));
/** What a served call leaves out. */
const limits = new Map<number, string>([
  [HvCall.InstallIntercept.code, 'I/O ports and ranges of them; other intercepts belong to the parent partition'],
  [HvCall.RegisterInterceptResult.code, 'CPUID results'],
  [HvCall.UnregisterInterceptResult.code, 'CPUID results'],
  [HvCall.AssertVirtualInterrupt.code, 'fixed interrupts and NMIs to one APIC id'],
  [HvCall.PostMessage.code, 'ports are named in the options'],
  [HvCall.SignalEvent.code, 'ports are named in the options'],
  [HvCall.RetargetDeviceInterrupt.code, 'devices are named in the options'],
  [HvCall.MemoryHeatHint.code, 'hints have no effect; discarding is not offered'],
  [HvCall.MemoryMappedIoRead.code, 'accesses of 1, 2, 4 and 8 bytes'],
  [HvCall.MemoryMappedIoWrite.code, 'accesses of 1, 2, 4 and 8 bytes'],
]);
const callRow = (call: Call): SupportRow => {
  const limit = limits.get(call.code);
  return { ...row('call', call.name, hex(call.code), call.spec, whyNot.get(call.code) ?? null), ...(limit === undefined ? {} : { note: limit }) };
};
const granted: readonly string[] = servedPrivileges;
const bit = (name: keyof typeof HvPartitionPrivilegeMask.fields): string => `bit ${HvPartitionPrivilegeMask.shift[name]}`;

const NO_MESSAGE = 'no public format of its message';
const whyNoConfig: Readonly<Partial<Record<keyof typeof HvRegisterVsmPartitionConfig.fields, string>>> = {
  interceptAcceptance: 'isolated virtual machines only',
  interceptEnableVtlProtection: NO_MESSAGE, interceptVpStartup: NO_MESSAGE, interceptRestorePartitionTime: NO_MESSAGE, interceptNotPresent: NO_MESSAGE, interceptSystemReset: NO_MESSAGE,
};
/** What a VTL can set for the partition; a write of what is not served is refused. */
const configRows = (Object.keys(HvRegisterVsmPartitionConfig.fields) as (keyof typeof HvRegisterVsmPartitionConfig.fields)[]).map((name) =>
  row('vsm-config', name, `bit ${HvRegisterVsmPartitionConfig.shift[name]}`, HvRegisterVsmPartitionConfig.spec, (HvRegisterVsmPartitionConfig.mask[name] & ~WRITABLE) === 0n ? null : (whyNoConfig[name] ?? 'unknown')));

/** A question on which sources differ: served where an option decides it. */
const disputeRow = ({ id, question, default: byDefault, alternatives, sources, noOption }: Dispute): SupportRow => ({
  ...row('choice', id, noOption === undefined ? 'option' : 'fixed', sources.join('; '), noOption ?? null),
  note: `${question} ${byDefault}; or ${alternatives.join('; or ')}${noOption === undefined ? '' : `. Not an option: ${noOption}`}`,
});

/** The support matrix, printed from the tables that the behaviour is bound to. */
export const support: readonly SupportRow[] = [
  ...leafSupport.map(({ leaf, why }) => row('cpuid', leaf.name, hex(leaf.leaf), 'TLFS Feature and Interface Discovery', why)),
  ...Object.keys(HvPartitionPrivilegeMask.fields).map((name) => row('privilege', name, bit(name as never), HvPartitionPrivilegeMask.spec, granted.includes(name) ? null : 'never granted')),
  ...CALLS.map(callRow),
  ...registerSupport,
  ...msrSupport,
  ...configRows,
  ...DISPUTES.map(disputeRow),
];
