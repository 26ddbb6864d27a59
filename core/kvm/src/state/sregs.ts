import { KvmSegment, KvmSregs, KvmSregs2 } from '@vmplanes/abi-kvm-planes';
import type { Infer } from '@vmplanes/binary';
import { Cr0Bit, Cr4Bit, cr4Allowed, EferBit, eferAllowed, readSegment, reservedAbove, type SegmentName, writeSegment } from '@vmplanes/x86';
import { fail, type KvmFailure, OK } from '../result.ts';
import { getReg, type PlaneVcpu, setReg, type VcpuCall } from './target.ts';

type Segment = Infer<typeof KvmSegment>;
type Sregs = Infer<typeof KvmSregs>;
type Common = Pick<Sregs, 'cs' | 'ds' | 'es' | 'fs' | 'gs' | 'ss' | 'tr' | 'ldt' | 'gdt' | 'idt' | 'cr0' | 'cr2' | 'cr3' | 'cr4' | 'cr8' | 'efer' | 'apicBase'>;

const segments = [['cs', 'cs'], ['ds', 'ds'], ['es', 'es'], ['fs', 'fs'], ['gs', 'gs'], ['ss', 'ss'], ['tr', 'tr'], ['ldt', 'ldtr']] as const satisfies readonly (readonly [keyof Common, SegmentName])[];

const readSegmentOf = ({ vm, context }: PlaneVcpu, name: SegmentName): Segment => {
  const s = readSegment(vm.machine.arena, vm.machine.blockOf(context, `${name}.selector`), name);
  const bit = (n: number): number => (s.attributes >>> n) & 1;
  return {
    base: s.base,
    limit: s.limit,
    selector: s.selector,
    type: s.attributes & 15,
    present: bit(7),
    dpl: (s.attributes >>> 5) & 3,
    db: bit(10),
    s: bit(4),
    l: bit(9),
    g: bit(11),
    avl: bit(8),
    unusable: bit(7) ^ 1,
    reservedPadding: 0,
  };
};

const writeSegmentOf = ({ vm, context }: PlaneVcpu, name: SegmentName, s: Segment): void => {
  const bit = (v: number, n: number): number => (v & 1) << n;
  const attributes = (s.type & 15) | bit(s.s, 4) | ((s.dpl & 3) << 5) | bit(s.unusable ? 0 : s.present, 7) | bit(s.avl, 8) | bit(s.l, 9) | bit(s.db, 10) | bit(s.g, 11);
  writeSegment(vm.machine.arena, vm.machine.blockOf(context, `${name}.selector`), name, { selector: s.selector, attributes, limit: s.limit, base: s.base });
};

const readCommon = (vcpu: PlaneVcpu): Common => {
  const { vm, context } = vcpu;
  const get = (n: Parameters<typeof getReg>[2]): bigint => getReg(vm.machine, context, n);
  const segment = Object.fromEntries(segments.map(([field, name]) => [field, readSegmentOf(vcpu, name)])) as Pick<Common, (typeof segments)[number][0]>;
  const table = (name: 'gdtr' | 'idtr'): Common['gdt'] => ({ base: get(`${name}.base`), limit: Number(get(`${name}.limit`)) & 0xffff, reservedPadding: [0, 0, 0] });
  return {
    ...segment,
    gdt: table('gdtr'),
    idt: table('idtr'),
    cr0: get('cr0'),
    cr2: get('cr2'),
    cr3: get('cr3'),
    cr4: get('cr4'),
    cr8: BigInt(vm.hardware.cr8(context)),
    efer: get('efer'),
    apicBase: vm.hardware.apicBase(context),
  };
};

/** What KVM refuses in one piece before it changes anything. @spec Linux arch/x86/kvm/x86.c kvm_is_valid_sregs */
const isValid = ({ vm }: PlaneVcpu, s: Common): boolean => {
  const { features } = vm.hardware;
  if (s.cr0 >> 32n || (s.cr0 & Cr0Bit.nw && !(s.cr0 & Cr0Bit.cd)) || (s.cr0 & Cr0Bit.pg && !(s.cr0 & Cr0Bit.pe))) return false;
  if (s.cr4 & ~cr4Allowed(features) || s.efer & ~eferAllowed(features)) return false;
  if (s.efer & EferBit.lme && s.cr0 & Cr0Bit.pg) {
    return (s.cr4 & Cr4Bit.pae) !== 0n && (s.efer & EferBit.lma) !== 0n && (s.cr3 & reservedAbove(features.physicalBits)) === 0n;
  }
  return (s.efer & EferBit.lma) === 0n && s.cs.l === 0;
};

const writeCommon = (vcpu: PlaneVcpu, s: Common): KvmFailure | null => {
  const { vm, context } = vcpu;
  if (!isValid(vcpu, s) || !vm.hardware.setApicBase(context, s.apicBase)) return fail('EINVAL');
  const set = (n: Parameters<typeof setReg>[2], v: bigint): void => setReg(vm.machine, context, n, v);
  for (const [field, name] of segments) writeSegmentOf(vcpu, name, s[field]);
  set('cpl', BigInt(s.ss.dpl & 3));
  set('gdtr.base', s.gdt.base);
  set('gdtr.limit', BigInt(s.gdt.limit));
  set('idtr.base', s.idt.base);
  set('idtr.limit', BigInt(s.idt.limit));
  for (const n of ['cr0', 'cr2', 'cr3', 'cr4', 'efer'] as const) set(n, n === 'cr0' ? s[n] | Cr0Bit.et : s[n]);
  vm.hardware.setCr8(context, Number(s.cr8 & 15n));
  vm.touched(context);
  return null;
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.13 */
export const getSregs: VcpuCall = (vcpu, argument) => {
  const interruptBitmap = [0n, 0n, 0n, 0n];
  const { vm, context } = vcpu;
  if (getReg(vm.machine, context, 'interrupt.injected') && !getReg(vm.machine, context, 'interrupt.soft')) {
    const vector = Number(getReg(vm.machine, context, 'interrupt.vector'));
    interruptBitmap[vector >>> 6] = 1n << BigInt(vector & 63);
  }
  return argument.write(KvmSregs, { ...readCommon(vcpu), interruptBitmap }) ? OK : fail('EFAULT');
};

const vectors = Array.from({ length: 256 }, (_, v) => v);

/** @spec Linux Documentation/virt/kvm/api.rst §4.14 */
export const setSregs: VcpuCall = (vcpu, argument) => {
  const s = argument.read(KvmSregs);
  if (s === null) return fail('EFAULT');
  const failure = writeCommon(vcpu, s);
  if (failure !== null) return failure;
  const vector = vectors.find((v) => (s.interruptBitmap[v >>> 6]! >> BigInt(v & 63)) & 1n);
  if (vector !== undefined) {
    setReg(vcpu.vm.machine, vcpu.context, 'interrupt.injected', 1n);
    setReg(vcpu.vm.machine, vcpu.context, 'interrupt.soft', 0n);
    setReg(vcpu.vm.machine, vcpu.context, 'interrupt.vector', BigInt(vector));
  }
  return OK;
};

const PDPTRS_VALID = 1n;

/** @spec Linux Documentation/virt/kvm/api.rst §4.130: PDPTRs are read from memory here, so the flag that says they are valid is never set. */
export const getSregs2: VcpuCall = (vcpu, argument) => (argument.write(KvmSregs2, { ...readCommon(vcpu), flags: 0n, pdptrs: [0n, 0n, 0n, 0n] }) ? OK : fail('EFAULT'));

/** @spec Linux Documentation/virt/kvm/api.rst §4.131 */
export const setSregs2: VcpuCall = (vcpu, argument) => {
  const s = argument.read(KvmSregs2);
  if (s === null) return fail('EFAULT');
  const isPae = s.cr0 & Cr0Bit.pg && s.cr4 & Cr4Bit.pae && !(s.efer & EferBit.lma);
  if (s.flags & ~PDPTRS_VALID || (s.flags & PDPTRS_VALID && !isPae)) return fail('EINVAL');
  return writeCommon(vcpu, s) ?? OK;
};
