import type { PerProfile } from './profile.ts';
import { rfc2025, series2026, Source } from './sources.ts';

/** A question on which the published designs or their reviewers differ, and what each profile does. */
export interface Dispute {
  readonly id: string;
  readonly question: string;
  readonly positions: readonly { readonly who: string; readonly says: string }[];
  readonly answers: PerProfile<string>;
  readonly sources: readonly string[];
}

const at = (who: string, says: string): Dispute['positions'][number] => ({ who, says });
const SILENT = 'says nothing';

/** The open questions and disputes of the published designs, in the order in which they arise. */
export const DISPUTES: readonly Dispute[] = [
  {
    id: 'Q1', question: 'Who schedules planes?',
    positions: [at('Bonzini', 'userspace scheduling stays possible; an accelerator may override it in its own order'), at('Roedel', 'TDX and CCA only force a switch to the top plane and lower VMSAs become unrunnable, so the kernel')],
    answers: { '2024-10': 'userspace', '2025-04': 'userspace, run->plane', '2026-06': 'kernel', vmplanes: 'a policy: userspace for VTLs, kernel for VMPLs' },
    sources: [Source.Reply2026, rfc2025(1), series2026(35)],
  },
  {
    id: 'Q2', question: 'Which id is more privileged?',
    positions: [at('Roedel', 'lowest first'), at('Hyper-V', 'highest first'), at('Bonzini', 'KVM need not know')],
    answers: { '2024-10': 'not known to KVM', '2025-04': 'not known to KVM', '2026-06': 'lower id first', vmplanes: 'a policy object; ids are never compared' },
    sources: [rfc2025(1), series2026(35), Source.Reply2026],
  },
  {
    id: 'Q3', question: 'What is a kvm_vcpu?',
    positions: [at('Christopherson', 'the whole vCPU, with plane objects below it'), at('Bonzini', 'agreed in June 2025'), at('Roedel', 'a common object beside plane vCPUs')],
    answers: { '2024-10': SILENT, '2025-04': 'one per plane, plane 0 is the owner', '2026-06': 'one per plane with a common object', vmplanes: 'a group with planes below it' },
    sources: [Source.ReplyChristopherson, Source.ReplyBonzini, series2026(0)],
  },
  {
    id: 'Q4', question: 'How many mutexes per vCPU?',
    positions: [at('KVM Forum 2024', 'one'), at('Christopherson', 'one')],
    answers: { '2024-10': 'one', '2025-04': 'one per plane, nested below plane 0', '2026-06': 'one', vmplanes: 'one' },
    sources: [Source.Cover2024, rfc2025(13), series2026(0)],
  },
  {
    id: 'Q5', question: 'How many planes?',
    positions: [at('Bonzini', '16, a round number'), at('Christopherson', '4 or even 2: growing is easier than shrinking')],
    answers: { '2024-10': 'up to 16, the width of the masks', '2025-04': '16; 1 on protected VMs', '2026-06': '16; as many as the processor has VMPLs', vmplanes: 'configurable up to 16, 4 by default' },
    sources: [rfc2025(26), Source.ReplyChristopherson, series2026(59)],
  },
  {
    id: 'Q6', question: 'Are memory attributes per plane?',
    positions: [at('Bonzini', 'an array per plane, permissions later'), at('Christopherson', 'not without the plane in the MMU page role and large-page flags per plane')],
    answers: { '2024-10': 'per plane', '2025-04': 'per plane, but none is supported beyond plane 0', '2026-06': 'per VM', vmplanes: 'NR, NW, NX per plane; PRIVATE per VM' },
    sources: [rfc2025(6), Source.ReplyChristopherson, series2026(0), Source.Vsm2024],
  },
  {
    id: 'Q7', question: 'How is a plane vCPU created?',
    positions: [at('Bonzini', 'an explicit call on the plane fd'), at('Christopherson', 'all objects with the plane, a call only enables them'), at('Roedel', 'KVM_CREATE_VCPU on the plane fd')],
    answers: { '2024-10': 'KVM_CREATE_VCPU_PLANE', '2025-04': 'KVM_CREATE_VCPU_PLANE', '2026-06': 'KVM_CREATE_VCPU on the plane fd', vmplanes: 'KVM_CREATE_VCPU_PLANE' },
    sources: [rfc2025(13), Source.Reply2024, series2026(8)],
  },
  {
    id: 'Q8', question: 'Which interrupt controllers go with planes?',
    positions: [at('Christopherson', 'no full in-kernel irqchip, and a local APIC is a must'), at('Bonzini', 'neither rule is needed')],
    answers: { '2024-10': SILENT, '2025-04': 'any, created before the first plane', '2026-06': 'split irqchip only', vmplanes: 'split irqchip or none' },
    sources: [Source.ReplyChristopherson, Source.ReplyBonzini, series2026(54), rfc2025(17)],
  },
  {
    id: 'Q9', question: 'Is the FPU shared?',
    positions: [at('KVM Forum 2024', 'shared, as Hyper-V has it'), at('Bonzini', 'SEV-ES needs it separate; the capability is a way out'), at('Roedel', 'dropped')],
    answers: { '2024-10': 'KVM_CAP_PLANE_FPU says 1 when separate', '2025-04': 'KVM_CAP_PLANES_FPU enables sharing', '2026-06': 'separate', vmplanes: 'either, chosen before the first vCPU; both capabilities' },
    sources: [Source.Cover2024, Source.Doc2024, rfc2025(21), series2026(0)],
  },
  {
    id: 'Q10', question: 'Does a call or return between VMPLs, without an interrupt, need an event?',
    positions: [at('Lendacky', 'asks'), at('COCONUT-SVSM branch', 'a cause RUN_SNP_VMPL'), at('Roedel', 'stays in the kernel')],
    answers: { '2024-10': SILENT, '2025-04': 'no', '2026-06': 'no, the kernel switches', vmplanes: 'no cause; the personality switches' },
    sources: [Source.ReplyLendacky, Source.CoconutNotes, series2026(58)],
  },
  {
    id: 'Q11', question: 'Is suspended_planes in the right place?',
    positions: [at('Bonzini', 'not sure: it must be migrated, a ONE_REG may be better')],
    answers: { '2024-10': 'kvm_run', '2025-04': 'kvm_run, not used by KVM', '2026-06': 'absent', vmplanes: 'kvm_run, and part of the saved state' },
    sources: [Source.Cover2024, rfc2025(1)],
  },
  {
    id: 'Q12', question: 'Is there a kvmclock per plane?',
    positions: [at('Bonzini', 'probably'), at('Thakkar', 'asks for one that stays in step')],
    answers: { '2024-10': SILENT, '2025-04': 'per plane values, VM-wide master clock', '2026-06': 'requests of the group', vmplanes: 'a page per plane from one time base' },
    sources: [rfc2025(0), Source.ReplyThakkar, series2026(48)],
  },
  {
    id: 'Q13', question: 'Whose are the statistics?',
    positions: [at('Christopherson', 'no special case for planes')],
    answers: { '2024-10': SILENT, '2025-04': 'shared by the planes of a vCPU', '2026-06': 'per plane object', vmplanes: 'per plane; the vCPU shows the sum' },
    sources: [rfc2025(10), Source.ReplyChristopherson, series2026(0)],
  },
  {
    id: 'Q14', question: 'Are requests per plane?',
    positions: [at('Bonzini', 'per plane, with corner cases to find'), at('Roedel', 'two bitmaps')],
    answers: { '2024-10': 'per plane', '2025-04': 'per plane', '2026-06': 'one bitmap of the vCPU and one per plane', vmplanes: 'one of the vCPU and one per plane' },
    sources: [rfc2025(1), series2026(21)],
  },
  {
    id: 'Q15', question: 'The hole in kvm_run, and plane or plane_id?',
    positions: [at('Christopherson', 'pad explicitly, before the field'), at('Bonzini', 'regrets the name')],
    answers: { '2024-10': 'hole at byte 3', '2025-04': 'hole at byte 3', '2026-06': 'no field', vmplanes: 'explicit reserved byte at 3' },
    sources: [rfc2025(2), Source.ReplyChristopherson],
  },
  {
    id: 'Q16', question: 'May a run end in another plane than it began?',
    positions: [at('KVM Forum 2024', 'TDX partitions and CCA planes do, without KVM seeing it; perhaps no obstacle with one mutex')],
    answers: { '2024-10': SILENT, '2025-04': 'reserved: run->plane as output needs an opt-in', '2026-06': 'yes, inside the kernel', vmplanes: 'yes, reported in run->plane after an opt-in' },
    sources: [Source.Cover2024, rfc2025(2), series2026(47)],
  },
  {
    id: 'Q17', question: 'What about posted interrupts and IPI virtualisation?',
    positions: [at('Bonzini', 'to be done')],
    answers: { '2024-10': SILENT, '2025-04': 'they bypass the pending mask', '2026-06': SILENT, vmplanes: 'all delivery is in software' },
    sources: [rfc2025(25)],
  },
  {
    id: 'Q18', question: 'Which plane does a GSI reach?',
    positions: [at('COCONUT-SVSM branch', 'each route names one'), at('Roedel', 'that of the last caller')],
    answers: { '2024-10': SILENT, '2025-04': 'plane 0', '2026-06': 'that of the last KVM_SET_GSI_ROUTING', vmplanes: 'each route names one' },
    sources: [Source.CoconutNotes, series2026(8), rfc2025(20)],
  },
  {
    id: 'Q19', question: 'Who carries the common part on?',
    positions: [at('Bonzini', 'offered in June 2026 to take it over again')],
    answers: { '2024-10': 'Bonzini', '2025-04': 'Bonzini', '2026-06': 'Roedel', vmplanes: 'numbers are data, so that renumbering is one row' },
    sources: [Source.Reply2026],
  },
];
