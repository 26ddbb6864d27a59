import { FirmwareStatus, GuestFieldSelect, KeyRequest, KeyRequestV2, KeyResponse, RootKeySelect } from '@vmplanes/abi-sev-snp';
import { derive } from './key-derivation.ts';
import { isVmplAllowed, LAST_KEY_SELECT, selectKey } from './key-select.ts';
import type { FirmwareView } from './ports.ts';

const KEY_BYTES = 32;
/** In version 1, the bit of the mitigation vector is reserved. */
const reservedOf = (isV2: boolean): bigint => GuestFieldSelect.reservedMask | (isV2 ? 0n : GuestFieldSelect.mask.launchMitVector);

interface KeyArguments {
  readonly rootKeySelect: number;
  readonly reserved04: number;
  readonly guestFieldSelect: bigint;
  readonly vmpl: number;
  readonly guestSvn: number;
  readonly tcbVersion: Uint8Array;
  readonly launchMitVector: bigint;
}

const response = (status: FirmwareStatus, key: Uint8Array | null): Uint8Array => {
  const out = new Uint8Array(KeyResponse.size);
  KeyResponse.write(new DataView(out.buffer), 0, { status, key: key ?? new Uint8Array(KEY_BYTES) });
  return out;
};

/** Answers MSG_KEY_REQ. @spec SNP ABI, MSG_KEY_REQ */
export function deriveKey(firmware: FirmwareView, payload: Uint8Array, vmpck: number): Uint8Array {
  const view = new DataView(payload.buffer, payload.byteOffset);
  const isV2 = payload.length === KeyRequestV2.size;
  const given: KeyArguments = isV2 ? KeyRequestV2.read(view, 0) : { ...KeyRequest.read(view, 0), launchMitVector: 0n };
  const { vmrk, keySelect } = RootKeySelect.unpack(given.rootKeySelect);
  const hasReserved = given.reserved04 !== 0 || (given.rootKeySelect & RootKeySelect.reservedMask) !== 0 || keySelect > LAST_KEY_SELECT || (given.guestFieldSelect & reservedOf(isV2)) !== 0n;
  if (hasReserved || !isVmplAllowed(given.vmpl, vmpck) || !isWithinGuest(firmware, given)) return response(FirmwareStatus.InvalidParam, null);
  // No guest here has a root key of its own.
  const root = vmrk ? null : selectKey(firmware, keySelect);
  return root === null ? response(FirmwareStatus.InvalidKey, null) : response(FirmwareStatus.Success, derive(root.root, 'derived key', KEY_BYTES, fieldsOf(firmware, given)));
}

/** A key may be bound to an older version than the present one, never to a newer one. */
const isWithinGuest = ({ guest, platform, settings }: FirmwareView, { guestSvn, tcbVersion, launchMitVector }: KeyArguments): boolean =>
  guestSvn <= guest.guestSvn && tcbVersion.every((part, i) => part <= platform.tcb[i]!) && (launchMitVector & ~settings.mitVector) === 0n;

/** What the key is made from beside its root: fields that are not selected enter as zero. A real platform mixes them in another way. */
function fieldsOf({ guest }: FirmwareView, given: KeyArguments): Uint8Array {
  const select = GuestFieldSelect.unpack(given.guestFieldSelect);
  const numbers = new DataView(new ArrayBuffer(40));
  numbers.setUint32(0, given.rootKeySelect, true);
  numbers.setUint32(4, given.vmpl, true);
  numbers.setBigUint64(8, given.guestFieldSelect, true);
  if (select.policy) numbers.setBigUint64(16, guest.policy, true);
  if (select.guestSvn) numbers.setUint32(24, given.guestSvn, true);
  if (select.launchMitVector) numbers.setBigUint64(32, given.launchMitVector, true);
  const field = (isSelected: boolean, value: Uint8Array): Uint8Array => (isSelected ? value : new Uint8Array(value.length));
  return Uint8Array.of(
    ...new Uint8Array(numbers.buffer),
    ...field(select.imageId, guest.imageId), ...field(select.familyId, guest.familyId), ...field(select.measurement, guest.digest), ...field(select.tcbVersion, given.tcbVersion),
  );
}
