import { Source, tlfs } from './sources.ts';

/** A question on which the public sources differ. */
export interface Dispute {
  /** Names the option of the personality that decides it, unless there is none: {@link Dispute.noOption}. */
  readonly id: string;
  readonly question: string;
  /** What this product does unless told otherwise. */
  readonly default: string;
  readonly alternatives: readonly string[];
  readonly sources: readonly string[];
  /** Why no option decides it: a guest could not tell the answers from each other. */
  readonly noOption?: string;
}

const VSM = tlfs('Virtual Secure Mode');
const row = (id: string, question: string, byDefault: string, alternatives: readonly string[], ...sources: readonly string[]): Dispute => ({ id, question, default: byDefault, alternatives, sources });
const moot = (noOption: string, dispute: Dispute): Dispute => ({ ...dispute, noOption });

/** Where sources differ, in the order of the specification's chapters as they arise. */
export const DISPUTES: readonly Dispute[] = [
  row('vtlProtTarget', 'Which VTL does HvCallModifyVtlProtectionMask name?', 'lenient: with two VTLs unset, 1 and 0 all restrict VTL0; with more, the owner', ['owner: the VTL that sets the restriction', 'restricted: the VTL that is restricted'],
    Source.OpenvmmCvm, Source.OpenTmk, Source.Kut, Source.Qemu),
  row('strictExecBits', 'What do execute bits mean without MBEC?', 'false: either bit alone, or both, grants execution', ['true: both must be equal'], Source.OpenvmmCvm, Source.Kut),
  row('executeBitOrder', 'Which bit is kernel execute?', 'kernel 2, user 3', ['user 2, kernel 3'], 'TLFS HV_MAP_GPA_FLAGS', Source.Hvdef, Source.Pdf5, Source.Pdf6, Source.Kut),
  row('vsmCapsLayout', 'From which end is VsmCapabilities numbered?', 'hvdef: dr6Shared at 0', ['tlfs: dr6Shared at 63'], Source.Hvdef, VSM, Source.Kut),
  row('mbecVtlMask', 'Which VTL do the MBEC masks name?', 'the VTL subject to MBEC', ['the VTL that sets it'], Source.OpenvmmCvm, Source.Kut),
  row('controlLayout', 'Where are the nested bit and the header size of the control word?', '31 and 26:17', ['26 and 25:17'], tlfs('Hypercall Interface'), Source.Hvdef, Source.Linux, Source.Pdf6),
  row('codeOffsets', 'Where do the VTL call and return stubs start?', '0x0f and 0x26', ['0x0f and 0x28', '0x16 and 0x20'], Source.OpenvmmEmulator, Source.OpenvmmWhp, Source.Rfc2023),
  row('straddleStatus', 'Which status has a parameter block that crosses a page?', 'InvalidAlignment', ['InvalidHypercallInput'], `${Source.Pdf6} 3.12`, Source.OpenvmmHypercall),
  row('partitionEnabledStatus', 'Which status has HvCallEnablePartitionVtl for an enabled VTL?', 'InvalidVtlState; InvalidParameter for VTL0', ['InvalidParameter'], Source.OpenvmmCvm, Source.Qemu),
  row('vpEnabledStatus', 'Which status has HvCallEnableVpVtl for an enabled VTL?', 'VtlAlreadyEnabled', ['InvalidParameter'], Source.OpenvmmCvm, Source.LinuxHvVtl, Source.Qemu),
  row('badVtlStatus', 'Which status has HvCallEnablePartitionVtl for a VTL that cannot be?', 'InvalidParameter', ['AccessDenied'], 'TLFS HvCallEnablePartitionVtl', Source.Kut, Source.OpenvmmCvm),
  row('allowUpwardIpi', 'May an IPI call name a higher VTL?', 'false: AccessDenied', ['true: it is delivered'], Source.OpenvmmCvm, Source.Kut, Source.Qemu),
  row('memoryMessageBytes', 'How long is the payload of a memory intercept?', '0xf0, with registers', ['0x50, without'], Source.Kut, Source.Qemu, Source.Hvdef),
  row('setRegistersElement', 'What is an element of HvCallSetVpRegisters?', 'a record of 32 bytes: name and value', ['all names first, then the values'], 'TLFS HvCallSetVpRegisters', Source.Linux, Source.Kut, Source.Qemu),
  row('maskChangeStatus', 'What happens when the default protection mask is changed after protections were enabled?', 'Success, and nothing changes', ['InvalidRegisterValue'], Source.Kut, Source.Qemu, Source.OpenvmmCvm),
  row('otherVpRegisters', 'May registers of another VP be accessed?', 'yes', ['no: get AccessDenied, set InvalidVpIndex'], 'TLFS HvCallGetVpRegisters', Source.Kut, Source.OpenvmmCvm),
  row('translateOwnVtl', 'May an address of the own VTL be translated?', 'yes', ['no: AccessDenied'], 'TLFS HvCallTranslateVirtualAddress', Source.Kut, Source.OpenvmmCvm),
  row('prefillReturn', 'Who fills the return registers of the VP assist page?', 'the hypervisor at entry, then the guest', ['the guest alone'], Source.Qemu, Source.OpenvmmCvm),
  row('translateExOutput', 'How long is the output of HvCallTranslateVirtualAddressEx?', '0x40, with event information', ['24'], Source.Hvdef, 'TLFS HvCallTranslateVirtualAddressEx'),
  row('apicIdElement', 'How long is an element of HvCallGetVpIndexFromApicId?', '4', ['8'], Source.Hvdef, Source.Linux, 'TLFS HvCallGetVpIndexFromApicId'),
  row('scontrolEnabled', 'What is SCONTROL after reset?', '0', ['1'], tlfs('Inter-Partition Communication'), Source.OpenvmmEmulator),
  row('vtl1ApicSwEnabled', 'Is the local APIC of a new VTL software-enabled?', 'false', ['true: spurious vector 0x1ff'], Source.Kut, Source.Qemu),
  row('vinaAutoReset', 'When does VINA auto-reset clear the flag?', 'at the next entry', ['at VTL return'], VSM, Source.OpenvmmCvm),
  row('hypercallPageWrite', 'What does a write to the hypercall page raise?', '#GP', ['#MC'], tlfs('Hypercall Interface'), `${Source.Pdf6} 8.8`),
  row('installInterceptCaller', 'Who may install intercepts?', 'a higher VTL, for ports', ['the parent partition alone', 'a higher VTL, in the part of the parent: for ports, CPUID leaves and exceptions'], Source.OpenvmmCvm, Source.Pdf6, Source.OpenvmmWhp),
  row('nonRamStatus', 'Which status has protecting what is not RAM?', 'InvalidParameter', ['OperationDenied'], `${Source.Pdf6} 15.15`, Source.OpenvmmCvm),
  row('startStartedVp', 'What does HvCallStartVirtualProcessor do to a started VP?', 'InvalidVpState', ['starts it again'], Source.OpenvmmCvm, Source.Qemu, 'TLFS HvCallStartVirtualProcessor', Source.OpenvmmWhp),
  moot('DR4 and DR5 are no registers but other names of DR6 and DR7, and the same lists say of those that they are private, or shared as the processor has it (option dr6Shared)',
    row('sharedDebugRegisters', 'Which debug registers do VTLs share?', 'DR0 to DR3', ['DR0 to DR5'], VSM, Source.Pdf5, Source.Pdf6)),
  moot('of these messages only register intercepts are ever sent, and the other list gives them no number',
    row('messageTypes5And6', 'What are message types 0x80010005 and 0x80010006?', 'IOMMU page request and register intercept', ['legacy FP error and IOMMU page request'], 'TLFS HV_MESSAGE_TYPE', Source.Hvdef, Source.Linux)),
  row('protectionsEnabledBy', 'What enables protections?', 'bit 0 of VsmPartitionConfig', ['any write to VsmPartitionConfig'], VSM, Source.OpenvmmCvm),
  row('partitionIdStatus', 'Which status has a partition id other than the own?', 'by call: InvalidPartitionId or AccessDenied', ['InvalidPartitionId everywhere'], 'TLFS HV_STATUS', Source.Qemu, Source.OpenvmmCvm),
  row('clusterIpiAll', 'May HvCallSendSyntheticClusterIpiEx name all VPs?', 'yes', ['no: InvalidParameter'], 'TLFS HV_VP_SET', Source.OpenvmmCvm),
  row('busyIntercept', 'What becomes of a memory intercept that cannot be delivered?', 'one waits for the slot; without a SynIC the access gets #GP', ['it is dropped, also without a SynIC, and the access faults again'], Source.Pdf5, Source.OpenvmmCvm),
  row('protectionClearStatus', 'What happens when bit 0 of VsmPartitionConfig is cleared after it was set?', 'Success, and it stays set', ['InvalidRegisterValue'], VSM, Source.OpenvmmCvm),
  row('strictSelfRegs', "May a VTL reach its own architectural registers by call?", 'yes', ['no: AccessDenied'], 'TLFS HvCallSetVpRegisters', Source.OpenvmmCvm),
  row('interceptGva', 'Does a memory intercept carry the linear address?', 'no', ['yes'], Source.Kut, `${Source.Pdf6} 11.9`),
  row('dropStartup', 'When are INIT and SIPI to VTL0 of a processor with higher VTLs dropped?', 'always', ['only under DenyLowerVtlStartup'], VSM, Source.OpenvmmCvm),
  row('assistPageContent', 'What does the VP assist page hold when enabled?', 'zeros at first, then what it held', ['zeros each time', 'what it held, even at first'], Source.Qemu, Source.OpenvmmEmulator),
];
