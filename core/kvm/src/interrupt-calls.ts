import { type Errno, Errno as errnos, IrqRouting, KvmIoapicState, KvmIrqchip, KvmIrqRoutingEntryPlanes, KvmMsi, KvmX86MsrFilter, MSI_VALID_DEVID } from '@vmplanes/abi-kvm-planes';
import { type GsiRoute, Irqchip as Chip, MsrFilter, type MsrFilterRange } from '@vmplanes/x86';
import type { Argument } from './argument.ts';
import { MAX_IRQ_ROUTES } from './extensions.ts';
import { IOAPIC_PINS } from './ioapic.ts';
import { fail, type KvmResult, OK, ret } from './result.ts';
import { Irqchip, type KvmVm } from './vm.ts';

const errnoNames = new Map<number, Errno>(Object.entries(errnos).map(([name, n]) => [n, name as Errno]));

/** A negative return of kernel code as its caller sees it: -1 is EPERM. */
const fromKernel = (value: number): KvmResult => (value >= 0 ? ret(value) : fail(errnoNames.get(-value) ?? 'EINVAL'));

/**
 * Sends a message-signalled interrupt into one plane.
 * @spec Linux Documentation/virt/kvm/api.rst §4.70; LKML 2025-04-01 RFC KVM: VM planes 09/29, 20/29
 */
export const signalMsi = (vm: KvmVm, plane: number, argument: Argument): KvmResult => {
  const m = argument.read(KvmMsi);
  if (m === null) return fail('EFAULT');
  if (!vm.hasKernelApic || m.flags & ~MSI_VALID_DEVID) return fail('EINVAL');
  return fromKernel(vm.hardware.signalMsi(plane, m.addressLo, m.addressHi, m.data));
};

/**
 * Makes PIC, I/O APIC and local APICs in the kernel; every line then leads to the pins of its number.
 * @spec Linux Documentation/virt/kvm/api.rst §4.24; LKML 2025-04-01 RFC KVM: VM planes 17/29
 */
export const createIrqchip = (vm: KvmVm): KvmResult => {
  if (vm.hasPlanes) return fail('EINVAL');
  if (vm.irqchip !== Irqchip.None) return fail('EEXIST');
  if (vm.groups.size > 0 || vm.behaviour.fullIrqchip === 'never') return fail('EINVAL');
  vm.irqchip = Irqchip.Full;
  vm.resetRouting();
  const pins: GsiRoute[] = [];
  for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) {
    pins.push({ kind: 'pin', gsi, chip: Chip.ioapic, pin: gsi });
    if (gsi < 16) pins.push({ kind: 'pin', gsi, chip: gsi < 8 ? Chip.picPrimary : Chip.picSecondary, pin: gsi % 8 });
  }
  return fromKernel(vm.routing.set(pins, 0, () => true));
};

const HEADER = 8;
const ENTRY = KvmIrqRoutingEntryPlanes.size;

/**
 * Replaces the interrupt routing table; which plane a route reaches depends on the profile.
 * @param plane - of the fd it came through.
 * @spec Linux Documentation/virt/kvm/api.rst §4.52; COCONUT-SVSM, KVM Planes build and run notes; LKML 2026-06-08 KVM Planes + SEV-SNP Support 08/60
 */
export const setGsiRouting = (vm: KvmVm, plane: number, argument: Argument): KvmResult => {
  const header = argument.bytes(0, HEADER);
  if (header === null) return fail('EFAULT');
  const view = new DataView(header.buffer);
  const n = view.getUint32(0, true);
  if (!vm.hasKernelApic || n > MAX_IRQ_ROUTES || view.getUint32(4, true) !== 0) return fail('EINVAL');
  if (argument.bytes(HEADER, n * ENTRY) === null) return fail('EFAULT');
  const routes: GsiRoute[] = [];
  for (let i = 0; i < n; i++) {
    const e = argument.read(KvmIrqRoutingEntryPlanes, HEADER + i * ENTRY)!;
    if (e.gsi >= MAX_IRQ_ROUTES) return fail('EINVAL');
    if (e.type === IrqRouting.MSI && !(e.flags & ~MSI_VALID_DEVID)) {
      const { addressLo, addressHi, data } = e.u.msi;
      routes.push({ kind: 'msi', gsi: e.gsi, addressLow: addressLo, addressHigh: addressHi, data, plane: vm.behaviour.routes === 'per-route' ? e.plane : 0 });
    } else if (e.type === IrqRouting.IRQCHIP && e.flags === 0) {
      routes.push({ kind: 'pin', gsi: e.gsi, chip: e.u.irqchip.irqchip, pin: e.u.irqchip.pin });
    } else return fail('EINVAL');
  }
  return fromKernel(vm.routing.set(routes, plane, (p) => p < 32 && (vm.planes & (1 << p)) !== 0));
};

/**
 * Changes an interrupt line: message routes send to their plane, pins of the I/O APIC reach plane 0.
 * @spec Linux Documentation/virt/kvm/api.rst §4.25
 */
export const irqLine = (vm: KvmVm, argument: Argument): KvmResult => {
  const input = argument.bytes(0, 8);
  if (input === null) return fail('EFAULT');
  if (!vm.hasKernelApic) return fail('ENXIO');
  const view = new DataView(input.buffer);
  vm.routing.setLine(view.getUint32(0, true), view.getUint32(4, true) !== 0, vm.arch.fabric.router, vm.ioapic);
  return OK;
};

/** The chip that a call is about, or why it fails. The PIC is not modelled: it has no state to give or take. */
const chipOf = (vm: KvmVm, argument: Argument): 'EFAULT' | 'ENXIO' | 'EINVAL' | 'ioapic' => {
  const head = argument.read(KvmIrqchip);
  if (head === null) return 'EFAULT';
  if (vm.irqchip !== Irqchip.Full) return 'ENXIO';
  return head.chipId === Chip.ioapic ? 'ioapic' : 'EINVAL';
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.26 KVM_GET_IRQCHIP */
export const getIrqchip = (vm: KvmVm, argument: Argument): KvmResult => {
  const chip = chipOf(vm, argument);
  if (chip !== 'ioapic') return fail(chip);
  argument.write(KvmIoapicState, vm.ioapic.state, CHIP_AT);
  return OK;
};

/** @spec Linux Documentation/virt/kvm/api.rst §4.27 KVM_SET_IRQCHIP */
export const setIrqchip = (vm: KvmVm, argument: Argument): KvmResult => {
  const chip = chipOf(vm, argument);
  if (chip !== 'ioapic') return fail(chip);
  vm.ioapic.state = argument.read(KvmIoapicState, CHIP_AT)!;
  return OK;
};
const CHIP_AT = KvmIrqchip.at.chip;

/**
 * Sets which MSRs the guest reaches by itself: up to 16 ranges with a bitmap each.
 * @spec Linux Documentation/virt/kvm/api.rst §4.97
 */
export const setMsrFilter = (vm: KvmVm, argument: Argument): KvmResult => {
  const f = argument.read(KvmX86MsrFilter);
  if (f === null) return fail('EFAULT');
  const ranges: MsrFilterRange[] = [];
  for (const r of f.ranges) {
    const bytes = 8 * Math.ceil(r.nmsrs / 64);
    ranges.push({ flags: r.flags, count: r.nmsrs, base: r.base, bitmap: r.nmsrs === 0 ? new Uint8Array(0) : (argument.bytes(Number(r.bitmap), bytes) ?? new Uint8Array(0)) });
  }
  const filter = MsrFilter.create({ flags: f.flags, ranges });
  if (typeof filter === 'string') return fail(filter);
  vm.hardware.setMsrFilter(filter);
  return OK;
};
