import { bits } from '@vmplanes/binary';

/** SW_EXITINFO1 of IOIO, as the processor reports the instruction. @spec APM vol. 2, 15.10.2; Linux arch/x86/include/asm/svm.h */
export const NaeIoInfo = bits('NaeIoInfo', 'APM vol. 2, 15.10.2; Linux arch/x86/include/asm/svm.h', 32, {
  isIn: 0,
  isString: 2,
  isRep: 3,
  data8: 4,
  data16: 5,
  data32: 6,
  address16: 7,
  address32: 8,
  address64: 9,
  segment: [10, 3, '0 ES, 3 DS'],
  port: [16, 16],
});
/** SW_EXITINFO1 of AP creation. @spec GHCB 4.1; KVM planes series 2026-06, sev.c */
export const NaeApCreationInfo = bits('NaeApCreationInfo', 'GHCB 4.1; KVM planes series 2026-06, sev.c', 64, { request: [0, 16, 'ApCreationRequest'], vmpl: [16, 4], apicId: [32, 32] });
/** What AP creation does. @spec GHCB 4.1; Linux arch/x86/include/uapi/asm/svm.h */
export const ApCreationRequest = { CreateOnInit: 0, Create: 1, Destroy: 2 } as const;
export type ApCreationRequest = (typeof ApCreationRequest)[keyof typeof ApCreationRequest];
/** SW_EXITINFO1 of a termination. @spec Linux arch/x86/include/uapi/asm/svm.h (SVM_VMGEXIT_TERM_REASON) */
export const NaeTermination = bits('NaeTermination', 'Linux arch/x86/include/uapi/asm/svm.h', 64, { reasonSet: [0, 4], reasonCode: [4, 8] });
