import { array, bits, bytes, struct, u32, u8 } from '@vmplanes/binary';

const EVENT = 'GHCB 5 (#HV doorbell page)';

/** Second byte of a doorbell page. @spec GHCB 5 */
export const DoorbellFlags = bits('DoorbellFlags', EVENT, 8, {
  nmi: [0, 'an NMI is pending'],
  machineCheck: [1, 'a machine check is pending'],
  noFurtherSignal: [7, 'the guest was told and has not looked yet: no further #HV'],
});

/** What is pending for one lower VMPL; filled only with extended interrupts. @spec coconut-svsm, kernel/src/sev/hv_doorbell.rs */
export const DoorbellVmpl = struct('DoorbellVmpl', EVENT, 0x40, {
  status: [0x00, bits('DoorbellStatus', EVENT, 32, { vector: [0, 8], nmi: 8, machineCheck: 9, level: 10, multipleVectors: 14, ipiRequested: 27, vector31: 31 })],
  irr: [0x04, array(u32, 7), 'vectors 32 to 255'],
  isr: [0x20, array(u32, 8)],
});

/** The page through which a hypervisor under restricted injection tells a VMPL of its events. @spec GHCB 5 */
export const DoorbellPage = struct('DoorbellPage', EVENT, 0x1000, {
  vector: [0x00, u8, 'pending vector, 0 for none'],
  flags: [0x01, DoorbellFlags],
  noEoiRequired: [0x02, u8, 'bit 0'],
  perVmpl: [0x03, u8, 'VMPLs with events, bit n - 1 for VMPL n'],
  reserved004: [0x04, bytes(0x3c)],
  vmpl1: [0x40, DoorbellVmpl],
  vmpl2: [0x80, DoorbellVmpl],
  vmpl3: [0xc0, DoorbellVmpl],
  software: [0x100, bytes(0xf00), 'free for the guest'],
});

/** What a guest asks about its doorbell page: INFO1 of exit code 0x80000014. @spec GHCB 4.1.12 */
export const DoorbellRequest = { GetPreferred: 0, Set: 1, Query: 2, Clear: 3 } as const;
export type DoorbellRequest = (typeof DoorbellRequest)[keyof typeof DoorbellRequest];
