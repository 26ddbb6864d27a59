import { KvmDirtyLog, KvmMemoryAttributes, KvmUserspaceMemoryRegion, KvmUserspaceMemoryRegion2, MemoryAttribute } from '@vmplanes/abi-kvm-planes';
import type { Infer } from '@vmplanes/binary';
import { ALL_RIGHTS, EXEC_RIGHTS, HostError, PAGE_SHIFT, PAGE_SIZE, Right, type Rights } from '@vmplanes/engine';
import type { Argument } from './argument.ts';
import { fail, type KvmResult, OK, ret } from './result.ts';
import type { KvmVm } from './vm.ts';

const U64 = 1n << 64n;
const PAGE_MASK = BigInt(PAGE_SIZE - 1);
/** First address that no guest page has. */
const GPA_LIMIT = 1n << 52n;

const { NR, NW, NX, PRIVATE } = MemoryAttribute;
const DENIALS = NR | NW | NX;

/** Rights that a set of denials leaves. */
export const rightsOf = (attributes: bigint): Rights => {
  let rights: Rights = ALL_RIGHTS;
  if (attributes & NR) rights &= ~Right.Read;
  if (attributes & NW) rights &= ~(Right.Write | Right.ShadowStack);
  if (attributes & NX) rights &= ~EXEC_RIGHTS;
  return rights;
};

/** PRIVATE goes with no denial, and nothing that cannot be read can be written or executed. @spec LKML 2024-06-09 Hyper-V VSM Emulation 15/18 */
const isValidCombination = (attributes: bigint): boolean => {
  if (attributes & PRIVATE) return (attributes & DENIALS) === 0n;
  return !(attributes & NR) || (attributes & (NW | NX)) === (NW | NX);
};

/**
 * Sets the attributes of a range in one plane; 0 means no restriction and clears.
 * @spec LKML 2025-04-01 RFC KVM: VM planes 06/29; LKML 2024-06-09 Hyper-V VSM Emulation 15/18
 */
export const setMemoryAttributes = (vm: KvmVm, plane: number, argument: Argument): KvmResult => {
  const a = argument.read(KvmMemoryAttributes);
  if (a === null) return fail('EFAULT');
  if (a.flags !== 0n || a.attributes & ~vm.attributesOf(plane)) return fail('EINVAL');
  if (a.size === 0n || a.address + a.size >= U64) return fail('EINVAL');
  if ((a.address | a.size) & PAGE_MASK) return fail('EINVAL');
  if (!isValidCombination(a.attributes)) return fail('EINVAL');
  // Addresses that no guest page can have keep no attribute.
  if (a.address >= GPA_LIMIT) return OK;
  const end = a.address + a.size > GPA_LIMIT ? GPA_LIMIT : a.address + a.size;
  const first = Number(a.address >> BigInt(PAGE_SHIFT));
  const count = Number((end - a.address) >> BigInt(PAGE_SHIFT));
  const { memory } = vm.machine;
  if (plane === 0 && vm.attributesOf(0) & PRIVATE) memory.setPrivate(first, count, (a.attributes & PRIVATE) !== 0n);
  if (vm.attributesOf(plane) & DENIALS) memory.permissions[plane]!.set(first, count, rightsOf(a.attributes));
  return OK;
};

const SlotFlag = { LogDirty: 1, Readonly: 2 } as const;
/** Slots of a VM: ids are below it. @spec Linux arch/x86/include/asm/kvm_host.h KVM_USER_MEM_SLOTS */
const MAX_SLOTS = 32764;

/**
 * Makes, changes or removes a slot. Memory behind it belongs to the machine: the user address is checked for alignment and otherwise unused.
 * @spec Linux Documentation/virt/kvm/api.rst §4.35; Linux virt/kvm/kvm_main.c kvm_set_memory_region
 */
export const setUserMemoryRegion = (vm: KvmVm, argument: Argument): KvmResult => {
  const r = argument.read(KvmUserspaceMemoryRegion);
  return r === null ? fail('EFAULT') : setRegion(vm, r);
};

/**
 * The same with private memory from a guest memory file. Private pages come from the machine here, and no such files exist: a region that names one is
 * refused as one that names another file.
 * @spec Linux Documentation/virt/kvm/api.rst §4.140
 */
export const setUserMemoryRegion2 = (vm: KvmVm, argument: Argument): KvmResult => {
  const r = argument.read(KvmUserspaceMemoryRegion2);
  if (r === null) return fail('EFAULT');
  return setRegion(vm, r);
};

const setRegion = (vm: KvmVm, r: Infer<typeof KvmUserspaceMemoryRegion>): KvmResult => {
  // Bits above 16 choose an address space; only the first exists.
  if (r.flags & ~(SlotFlag.LogDirty | SlotFlag.Readonly) || r.slot >>> 16 || r.slot >= MAX_SLOTS) return fail('EINVAL');
  if ((r.memorySize | r.guestPhysAddr | r.userspaceAddr) & PAGE_MASK || r.guestPhysAddr + r.memorySize > GPA_LIMIT) return fail('EINVAL');
  const { memory } = vm.machine;
  const old = memory.slots.byId(r.slot);
  if (r.memorySize === 0n) {
    if (!old) return fail('EINVAL');
    memory.removeSlot(r.slot);
    return OK;
  }
  const gpa = Number(r.guestPhysAddr);
  const size = Number(r.memorySize);
  const readonly = (r.flags & SlotFlag.Readonly) !== 0;
  const logDirty = (r.flags & SlotFlag.LogDirty) !== 0;
  try {
    if (!old) {
      memory.addSlot({ id: r.slot, gpa, size, readonly, logDirty });
      return OK;
    }
    if (old.pages * PAGE_SIZE !== size || old.isReadonly !== readonly) return fail('EINVAL');
    if (old.first * PAGE_SIZE !== gpa) memory.moveSlot(r.slot, gpa);
    memory.logDirty(r.slot, logDirty);
    return OK;
  } catch (error) {
    if (error instanceof HostError && error.code === 'ExistsAlready') return fail('EEXIST');
    if (error instanceof HostError && error.code === 'NoMemory') return fail('ENOMEM');
    throw error;
  }
};

/** Copies the dirty bitmap of a slot and clears it. @spec Linux Documentation/virt/kvm/api.rst §4.8 */
export const getDirtyLog = (vm: KvmVm, argument: Argument): KvmResult => {
  const d = argument.read(KvmDirtyLog);
  if (d === null) return fail('EFAULT');
  // The ring replaces the bitmaps.
  if (vm.caps.dirtyRing > 0) return fail('ENXIO');
  if (d.slot >>> 16 || d.slot >= MAX_SLOTS) return fail('EINVAL');
  const { memory } = vm.machine;
  const slot = memory.slots.byId(d.slot);
  if (!slot?.dirty) return fail('ENOENT');
  const words = new Uint32Array(2 * Math.ceil(slot.pages / 64));
  memory.dirty.peek(d.slot, words);
  if (!argument.store(Number(d.dirtyBitmap), new Uint8Array(words.buffer))) return fail('EFAULT');
  memory.dirty.collect(d.slot, words);
  return OK;
};

/** Frees the collected entries of all rings. @returns how many. @spec Linux Documentation/virt/kvm/api.rst §8.29 */
export const resetDirtyRings = (vm: KvmVm): KvmResult => (vm.caps.dirtyRing === 0 ? fail('EINVAL') : ret(vm.machine.memory.dirty.resetRings()));
