import { KvmCpuidEntry2 } from '@vmplanes/abi-kvm-planes';
import type { Infer } from '@vmplanes/binary';
import { type CpuidEntry, CpuidTable } from '@vmplanes/x86';
import { fail, OK } from '../result.ts';
import type { VcpuCall } from './target.ts';

/** @spec Linux arch/x86/include/asm/kvm_host.h KVM_MAX_CPUID_ENTRIES */
const MAX_ENTRIES = 256;
const HEADER = 8;
const INDEX_COUNTS = 1;
const NO_PADDING = [0, 0, 0];

type Entry = Infer<typeof KvmCpuidEntry2>;

const toTable = (e: Entry): CpuidEntry => ({ leaf: e.function, subleaf: e.index, indexed: (e.flags & INDEX_COUNTS) !== 0, eax: e.eax, ebx: e.ebx, ecx: e.ecx, edx: e.edx });
const fromTable = (e: CpuidEntry): Entry =>
  ({ function: e.leaf, index: e.subleaf, flags: e.indexed ? INDEX_COUNTS : 0, eax: e.eax, ebx: e.ebx, ecx: e.ecx, edx: e.edx, reservedPadding: NO_PADDING });

const isSame = (a: readonly CpuidEntry[], b: readonly CpuidEntry[]): boolean =>
  a.length === b.length && a.every((x, i) => (Object.keys(x) as (keyof CpuidEntry)[]).every((k) => x[k] === b[i]![k]));

/**
 * Sets the table of the vCPU, common to its planes. Once it ran (or, by profile, once a plane vCPU copied it) only the present table is accepted.
 * @spec Linux Documentation/virt/kvm/api.rst §4.20; LKML 2025-04-01 RFC KVM: VM planes 24/29
 */
export const setCpuid2: VcpuCall = ({ vm, group }, argument) => {
  const header = argument.bytes(0, HEADER);
  if (header === null) return fail('EFAULT');
  const n = new DataView(header.buffer).getUint32(0, true);
  if (n > MAX_ENTRIES) return fail('E2BIG');
  if (argument.bytes(HEADER, n * KvmCpuidEntry2.size) === null) return fail('EFAULT');
  const entries = Array.from({ length: n }, (_, i) => toTable(argument.read(KvmCpuidEntry2, HEADER + i * KvmCpuidEntry2.size)!));
  const isLocked = group.hasRun || (vm.behaviour.planeLocksCpuid && group.hasPlanes);
  if (isLocked) return isSame(entries, group.cpuid) ? OK : fail('EINVAL');
  group.cpuid = entries;
  vm.hardware.setCpuid(group.vp, new CpuidTable(entries));
  return OK;
};

/** @spec Linux Documentation/virt/kvm/api.rst KVM_GET_CPUID2 */
export const getCpuid2: VcpuCall = ({ group }, argument) => {
  const header = argument.bytes(0, HEADER);
  if (header === null) return fail('EFAULT');
  const room = new DataView(header.buffer).getUint32(0, true);
  const { cpuid } = group;
  const count = new Uint8Array(4);
  new DataView(count.buffer).setUint32(0, cpuid.length, true);
  if (room >= cpuid.length) {
    if (argument.bytes(HEADER, cpuid.length * KvmCpuidEntry2.size) === null) return fail('EFAULT');
    cpuid.forEach((e, i) => argument.write(KvmCpuidEntry2, fromTable(e), HEADER + i * KvmCpuidEntry2.size));
  }
  argument.store(0, count);
  return room < cpuid.length ? fail('E2BIG') : OK;
};
