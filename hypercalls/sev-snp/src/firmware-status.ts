import { namesOf, numbersOf } from '@vmplanes/binary';

/** What a command of the security processor ends with: number and meaning. @spec SNP ABI, status codes; Linux include/uapi/linux/psp-sev.h */
const rows = {
  Success: [0x00, 'the command succeeded'],
  InvalidPlatformState: [0x01, 'not in this state of the platform'],
  InvalidGuestState: [0x02, 'not in this state of the guest'],
  InvalidConfig: [0x03, 'the configuration of the platform is not valid'],
  InvalidLength: [0x04, 'a buffer is too small'],
  AlreadyOwned: [0x05, 'the platform is owned already'],
  InvalidCertificate: [0x06, 'a certificate is not valid'],
  PolicyFailure: [0x07, 'the policy of the guest does not allow it, or is not valid'],
  Inactive: [0x08, 'the guest is not active'],
  InvalidAddress: [0x09, 'an address is not valid'],
  BadSignature: [0x0a, 'a signature does not verify'],
  BadMeasurement: [0x0b, 'the measurement differs'],
  AsidOwned: [0x0c, 'the ASID is in use'],
  InvalidAsid: [0x0d, 'no such ASID'],
  WbinvdRequired: [0x0e, 'caches must be written back first'],
  DfFlushRequired: [0x0f, 'the data fabric must be flushed first'],
  InvalidGuest: [0x10, 'no such guest'],
  InvalidCommand: [0x11, 'no such command'],
  Active: [0x12, 'the guest is active already'],
  HardwarePlatform: [0x13, 'a hardware error; the platform is not affected'],
  HardwareUnsafe: [0x14, 'a hardware error; the platform cannot be trusted'],
  Unsupported: [0x15, 'the feature is not supported'],
  InvalidParam: [0x16, 'a parameter is not valid'],
  ResourceLimit: [0x17, 'a resource of the firmware is used up'],
  SecureDataInvalid: [0x18, 'secure data is not valid'],
  InvalidPageSize: [0x19, 'a page has another size'],
  InvalidPageState: [0x1a, 'a page is in another state'],
  InvalidMetadataEntry: [0x1b, 'the metadata entry is not valid'],
  InvalidPageOwner: [0x1c, 'a page belongs to another owner'],
  AeadOverflow: [0x1d, 'the sequence number of a message key is used up'],
  RingBufferExit: [0x1f, 'the ring buffer mode was left'],
  RmpInitRequired: [0x20, 'the RMP must be initialised first'],
  BadSvn: [0x21, 'a security version is below the committed one'],
  BadVersion: [0x22, 'a version is below the committed one'],
  ShutdownRequired: [0x23, 'the platform must be shut down first'],
  UpdateFailed: [0x24, 'the firmware update failed'],
  RestoreRequired: [0x25, 'the committed firmware must be restored first'],
  RmpInitFailed: [0x26, 'the RMP could not be initialised'],
  InvalidKey: [0x27, 'a key is not valid or not available'],
} as const;

/** Statuses of the security processor by name. */
export const FirmwareStatus = numbersOf(rows);
/** The number of a status. */
export type FirmwareStatus = (typeof FirmwareStatus)[keyof typeof FirmwareStatus];

const names = namesOf('FirmwareStatus', rows);

/** The name of a status; a number not known is shown as `status 0x99`. */
export const firmwareStatusName = (status: number): string => names.get(status) ?? `status 0x${status.toString(16)}`;

/** What a status means, for people. */
export function firmwareStatusMeaning(status: number): string {
  const name = names.get(status);
  return name === undefined ? 'not a known status' : rows[name][1];
}
