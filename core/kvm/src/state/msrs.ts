import { KvmMsrEntry } from '@vmplanes/abi-kvm-planes';
import { fail, ret } from '../result.ts';
import type { VcpuCall } from './target.ts';

/** Entries of one call. @spec Linux arch/x86/include/asm/kvm_host.h MAX_IO_MSRS */
const MAX_ENTRIES = 256;
const HEADER = 8;
const DATA_AT = KvmMsrEntry.at.data;

/** Reads the header and checks its count; the entries are handled one by one, up to the first that fails. */
const count = (argument: Parameters<VcpuCall>[1]): number | 'EFAULT' | 'E2BIG' => {
  const header = argument.bytes(0, HEADER);
  if (header === null) return 'EFAULT';
  const n = new DataView(header.buffer).getUint32(0, true);
  if (n >= MAX_ENTRIES) return 'E2BIG';
  return argument.bytes(HEADER, n * KvmMsrEntry.size) === null ? 'EFAULT' : n;
};

/** @returns the number of entries read. @spec Linux Documentation/virt/kvm/api.rst §4.18 */
export const getMsrs: VcpuCall = ({ vm, context }, argument) => {
  const n = count(argument);
  if (typeof n === 'string') return fail(n);
  for (let i = 0; i < n; i++) {
    const at = HEADER + i * KvmMsrEntry.size;
    const value = vm.hardware.readMsr(context, argument.read(KvmMsrEntry, at)!.index);
    if (value === null) return ret(i);
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, value, true);
    argument.store(at + DATA_AT, data);
  }
  return ret(n);
};

/** @returns the number of entries written. @spec Linux Documentation/virt/kvm/api.rst §4.19 */
export const setMsrs: VcpuCall = ({ vm, context }, argument) => {
  const n = count(argument);
  if (typeof n === 'string') return fail(n);
  const writes = (i: number): boolean => {
    const entry = argument.read(KvmMsrEntry, HEADER + i * KvmMsrEntry.size)!;
    return vm.hardware.writeMsr(context, entry.index, entry.data);
  };
  let done = 0;
  while (done < n && writes(done)) done++;
  vm.touched(context);
  return ret(done);
};
