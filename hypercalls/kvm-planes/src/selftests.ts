import type { Profile } from './profile.ts';
import { rfc2025, series2026, Source } from './sources.ts';

/** One observable behaviour that a test must show, with what each profile does; absent profiles have no such case. */
export interface SelftestCase {
  readonly id: string;
  readonly group: 'generic' | 'x86' | 'pkru' | 'missing';
  readonly title: string;
  readonly expect: Readonly<Partial<Record<Profile, string>>>;
  readonly source: string;
}

const all = (text: string): SelftestCase['expect'] => ({ '2025-04': text, '2026-06': text, vmplanes: text });
const g1 = (text: string): SelftestCase['expect'] => ({ '2025-04': text, vmplanes: text });
const generic = (id: string, title: string, expect: SelftestCase['expect']): SelftestCase => ({ id: `generic.${id}`, group: 'generic', title, expect, source: Source.SelftestGeneric });
const x86 = (id: string, title: string, expect: SelftestCase['expect']): SelftestCase => ({ id: `x86.${id}`, group: 'x86', title, expect, source: Source.SelftestX86 });
const missing = (id: string, title: string, expect: SelftestCase['expect'], source: string): SelftestCase => ({ id: `missing.${id}`, group: 'missing', title, expect, source });

/** The published selftests, then the areas that they leave out. */
export const SELFTESTS: readonly SelftestCase[] = [
  generic('errors.plane0', 'KVM_CREATE_PLANE(0)', all('EEXIST')),
  generic('errors.too-high', 'KVM_CREATE_PLANE(KVM_CAP_PLANES of the system fd)', all('EINVAL')),
  generic('errors.vcpu-plane-on-vm', 'KVM_CREATE_VCPU_PLANE(vCPU fd) on the VM fd', all('ENOTTY')),
  generic('basic.cap-planes', 'KVM_CHECK_EXTENSION(KVM_CAP_PLANES) on a plane fd', { '2025-04': '0', '2026-06': 'ENOTTY', vmplanes: '0' }),
  generic('basic.cap-check-extension', 'KVM_CHECK_EXTENSION(KVM_CAP_CHECK_EXTENSION_VM) on a plane fd', { '2025-04': '1', '2026-06': 'ENOTTY', vmplanes: '1' }),
  generic('basic.plane-twice', 'KVM_CREATE_PLANE(1) again', all('EEXIST')),
  generic('basic.vcpu', 'a vCPU of plane 1 for vCPU 0', all('fd')),
  generic('basic.vcpu-twice', 'the same vCPU of plane 1 again', all('EEXIST')),
  generic('basic.run-on-plane', 'KVM_RUN on the plane fd', all('ENOTTY')),

  x86('regs', 'RAX 0x12345678 in plane 0 and 0x87654321 in plane 1', all('each keeps its own')),
  x86('fpu-separate', 'XMM0 written through KVM_SET_XSAVE in both planes', all('each keeps its own')),
  x86('fpu-shared', 'KVM_CAP_PLANES_FPU(1), XMM0 written in one plane and read in the other', g1('the same image')),
  x86('msi.a', 'KVM_SIGNAL_MSI vector 192 on the plane fd', all('returns 1; only plane 1 has the IRR bit')),
  x86('msi.b', 'req_exit_planes 0b10, run plane 0', g1('PLANE_EVENT, INTERRUPT, pending 0b10, target 0b10, no instruction executed')),
  x86('msi.c', 'KVM_SIGNAL_MSI vector 192 on the VM fd', all('returns 1; plane 0 has the IRR bit')),
  x86('msi.d', 'req_exit_planes 0b11, run plane 1', g1('PLANE_EVENT, INTERRUPT, pending 0b01, target 0b01, no instruction executed')),
  {
    id: 'pkru.separate', group: 'pkru', title: 'PKRU 0xffffffff to both planes; 0xaaaaaaaa to plane 0; plane 1 read; 0x55555555 to plane 1; plane 0 read, with a shared FPU',
    expect: g1('0xffffffff, then 0xaaaaaaaa'), source: `${Source.SelftestX86}; its second step reads where it must write`,
  },

  missing('run-plane', 'run->plane 16, 255, an unused id, or a plane without this vCPU', g1('EINVAL, nothing changes; without another plane, plane 0 runs'), rfc2025(22)),
  missing('own-bit', 'req_exit_planes has only the bit of the plane that runs, whose interrupt is pending', g1('the guest runs and takes it'), rfc2025(1, 25)),
  missing('level-repeat', 'the same plane is run again after an exit', g1('the same exit; none once the other plane ran to EOI'), rfc2025(25)),
  missing('pending-superset', 'two other planes pending, one of them requested', g1('pending names both, target only the requested one'), rfc2025(25)),
  missing('hlt', 'the plane that runs is halted; an MSI comes for another', {
    '2025-04': 'stays blocked until something else wakes the vCPU', '2026-06': 'an injectable interrupt of plane 0 wakes it; others wait', vmplanes: 'exit when requested; blocked when not; EINTR on a signal',
  }, `${rfc2025(25)}; ${series2026(52)}`),
  missing('halted-entry', 'KVM_RUN of a halted plane while a requested plane is pending', { '2025-04': 'blocks', vmplanes: 'exit, no blocking' }, rfc2025(25)),
  missing('tpr', 'the other plane’s task priority masks the pending vector', { '2025-04': 'exit', '2026-06': 'no switch until the priority drops', vmplanes: 'no exit until the priority drops' }, `${rfc2025(25)}; ${series2026(52)}`),
  missing('nmi-timer', 'an NMI or an expired timer of the other plane', { '2025-04': 'no exit', '2026-06': 'an NMI of plane 0 switches; a timer when it becomes injectable', vmplanes: 'exit' }, `${rfc2025(25)}; ${series2026(52)}`),
  missing('restore', 'KVM_SET_LAPIC with an IRR bit in the other plane, then KVM_RUN', { '2025-04': 'no exit', '2026-06': 'switch when it is plane 0 and injectable', vmplanes: 'exit' }, rfc2025(25)),
  missing('sparse', 'MSI to an APIC id that exists in plane 0 only, on the fd of plane 1', all('EPERM, nothing delivered'), rfc2025(7, 20)),
  missing('ipi', 'ICR write in plane 1 with the all-but-self shorthand', all('only plane 1 changes'), rfc2025(20)),
  missing('cpuid-order', 'KVM_SET_CPUID2 after the plane vCPU exists', { '2025-04': 'EINVAL when it differs, else 0', '2026-06': 'all planes see the table', vmplanes: 'EINVAL when it differs, else 0' }, `${rfc2025(24)}; ${series2026(0)}`),
  missing('irqchip-order', 'KVM_CREATE_IRQCHIP and KVM_CAP_SPLIT_IRQCHIP after a plane exists', all('EINVAL and EEXIST'), `${rfc2025(17)}; ${series2026(54)}`),
  missing('fpu-enable', 'KVM_CAP_PLANES_FPU with flags, after a vCPU, with 2, on a protected VM', { '2025-04': 'EINVAL each', '2026-06': 'EINVAL: no such capability', vmplanes: 'EINVAL each' }, rfc2025(21)),
  missing('fork', 'any request from a process with another address space', all('EIO'), rfc2025(9)),
  missing('payload', 'padding and extra words of the plane event, over stale bytes', { '2025-04': 'left as they were', '2026-06': 'zero', vmplanes: 'zero' }, `${rfc2025(1, 2)}; ${series2026('Add KVM_EXIT_PLANE_EVENT')}`),
  missing('pending-io', 'MMIO read exit in one plane, another plane runs, back to the first', g1('completes with the data given for the first'), rfc2025(22)),
  missing('races', 'delivery against run entry and epilogue, all interleavings', all('no requested event is lost'), rfc2025(25)),
];
