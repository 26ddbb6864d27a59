import { bits, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';
import { HvMessage } from './messages.ts';
import { Source } from './sources.ts';

const PAGE = `TLFS HV_VP_ASSIST_PAGE; ${Source.Hvdef}`;

/** First dword of the VP assist page. @spec TLFS HV_VP_ASSIST_PAGE, EOI assist */
export const HvApicAssist = bits('HvApicAssist', PAGE, 32, { noEoiRequired: [0, 'the guest may clear it instead of writing EOI'] });
/** Whether VINA is asserted. @spec TLFS HV_VP_VTL_CONTROL */
export const HvVinaStatus = bits('HvVinaStatus', 'TLFS HV_VP_VTL_CONTROL', 8, { vinaAsserted: 0 });

/** What the hypervisor and a VTL tell each other at entry and return. @spec TLFS HV_VP_VTL_CONTROL */
export const HvVpVtlControl = struct('HvVpVtlControl', 'TLFS HV_VP_VTL_CONTROL', 24, {
  entryReason: [0, u32, 'HvVtlEntryReason'],
  vinaStatus: [4, HvVinaStatus],
  reserved: [5, bytes(3)],
  vtlReturnRax: [8, u64, '32-bit: EAX, then ECX in the upper half'],
  vtlReturnRcx: [16, u64, '32-bit: EDX'],
});

/** What a nested hypervisor lets the one below do. @spec TLFS HV_NESTED_ENLIGHTENMENTS_CONTROL */
export const HvNestedEnlightenmentsControl = bits('HvNestedEnlightenmentsControl', 'TLFS HV_NESTED_ENLIGHTENMENTS_CONTROL', 64, { directHypercall: 0, interPartitionCommunication: 32 });
/** What a virtualization fault is about. @spec TLFS HV_VIRTUALIZATION_FAULT_INFORMATION */
export const HvVirtualizationFaultInformation = struct('HvVirtualizationFaultInformation', 'TLFS HV_VIRTUALIZATION_FAULT_INFORMATION', 16, {
  parameter0: [0, u16],
  reserved: [2, u16],
  code: [4, u32],
  parameter1: [8, u64],
});

/** What happens when a VTL returns: entries up to the first of type 0, cleared when done. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvVpAssistPageActionSignalEvent = struct('HvVpAssistPageActionSignalEvent', Source.Hvdef, 16, {
  actionType: [0, u64, 'HvVpAssistPageActionType'],
  targetVp: [8, u32],
  targetVtl: [12, u8],
  targetSint: [13, u8],
  flagNumber: [14, u16],
});
/** Kinds of return actions. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const HvVpAssistPageActionType = { None: 0n, SignalEvent: 1n } as const;

/** The used part of the page; one per VP and VTL. @spec TLFS HV_VP_ASSIST_PAGE; openvmm vm/hv1/hvdef/src/lib.rs */
export const HvVpAssistPage = struct('HvVpAssistPage', PAGE, 624, {
  apicAssist: [0, HvApicAssist],
  reservedZ0: [4, u32],
  vtlControl: [8, HvVpVtlControl],
  nestedEnlightenmentsControl: [32, HvNestedEnlightenmentsControl],
  enlightenVmEntry: [40, u8],
  reservedZ1: [41, bytes(7)],
  currentNestedVmcs: [48, u64],
  syntheticTimeUnhaltedTimerExpired: [56, u8],
  reservedZ2: [57, bytes(7)],
  virtualizationFaultInformation: [64, HvVirtualizationFaultInformation],
  reservedFault: [80, bytes(24), 'the area has 40 bytes, of which 16 are described'],
  reservedZ3: [104, u64],
  interceptMessage: [112, HvMessage, 'with VsmPartitionConfig.interceptPage'],
  vtlReturnActions: [368, bytes(256), 'HvVpAssistPageActionSignalEvent entries'],
});
