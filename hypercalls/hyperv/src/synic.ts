import { array, bits, bytes, struct } from '@vmplanes/binary';
import { HvMessage } from './messages.ts';
import { Source, tlfs } from './sources.ts';

const IPC = tlfs('Inter-Partition Communication');

/** Sources, timers and version of the SynIC. @spec TLFS Inter-Partition Communication, SynIC */
export const HV_SYNIC_SINT_COUNT = 16;
export const HV_SYNIC_STIMER_COUNT = 4;
export const HV_SYNIC_VERSION_1 = 1;
/** SINT vectors are this and above. @spec TLFS Inter-Partition Communication, SINTx registers */
export const HV_SYNIC_FIRST_VALID_VECTOR = 16;
/** SINTs that the hypervisor assigns. @spec Linux include/hyperv/hvgdk_mini.h */
export const HV_SYNIC_INTERCEPTION_SINT_INDEX = 0;
export const HV_SYNIC_IOMMU_FAULT_SINT_INDEX = 1;
export const HV_SYNIC_VMBUS_SINT_INDEX = 2;
/** Event flags of one SINT. @spec TLFS HV_SYNIC_EVENT_FLAGS */
export const HV_EVENT_FLAGS_COUNT = 2048;
/** Vectors that an IPI call takes. @spec TLFS HvCallSendSyntheticClusterIpi */
export const HV_IPI_LOW_VECTOR = 0x10;
export const HV_IPI_HIGH_VECTOR = 0xff;

/** Turns the SynIC on. @spec TLFS Inter-Partition Communication, SCONTROL register */
export const HvSynicScontrol = bits('HvSynicScontrol', IPC, 64, { enable: 0 });
/** Base of a page that the SynIC maps. @spec TLFS Inter-Partition Communication, SIEFP and SIMP registers */
export const HvSynicSimpSiefp = bits('HvSynicSimpSiefp', IPC, 64, { enable: 0, preserved: [1, 11], baseGpn: [12, 52, 'page number'] });
/** One source. @spec TLFS Inter-Partition Communication, SINTx registers; Linux include/hyperv/hvgdk_mini.h */
export const HvSynicSint = bits('HvSynicSint', `${IPC}; ${Source.Linux}`, 64, {
  vector: [0, 8],
  masked: 16,
  autoEoi: 17,
  polling: [18, 'messages raise no interrupt'],
  asIntercept: [19, 'messages come as intercepts'],
  proxy: 20,
});
/** Its value after reset: masked. @spec TLFS Inter-Partition Communication, SINTx registers */
export const HV_SYNIC_SINT_RESET = 0x1_0000n;

/** A synthetic timer. @spec TLFS Timers, synthetic timer configuration register */
export const HvStimerConfig = bits('HvStimerConfig', tlfs('Timers, synthetic timer configuration register'), 64, {
  enable: 0,
  periodic: 1,
  lazy: [2, 'may be late while the VP is not running'],
  autoEnable: [3, 'a count other than 0 enables the timer'],
  apicVector: [4, 8, 'of a direct timer'],
  directMode: [12, 'raises an interrupt instead of a message'],
  sintx: [16, 4],
});
/** The timer that counts only while its VP is not halted. @spec TLFS Timers, synthetic time-unhalted timer */
export const HvStimeUnhaltedTimerConfig = bits('HvStimeUnhaltedTimerConfig', tlfs('Timers, synthetic time-unhalted timer'), 64, { vector: [0, 8, '2 for an NMI, or 16 and above'], enabled: 8 });

/** Sixteen message slots. @spec TLFS Inter-Partition Communication, SIM page */
export const HvMessagePage = struct('HvMessagePage', IPC, 4096, { slots: [0, array(HvMessage, HV_SYNIC_SINT_COUNT)] });
/** Sixteen sets of 2048 flags. @spec TLFS HV_SYNIC_EVENT_FLAGS */
export const HvEventFlagsPage = struct('HvEventFlagsPage', 'TLFS HV_SYNIC_EVENT_FLAGS', 4096, { slots: [0, array(bytes(HV_EVENT_FLAGS_COUNT / 8), HV_SYNIC_SINT_COUNT)] });
