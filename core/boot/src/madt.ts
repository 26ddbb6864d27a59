import { ascii, bytes, struct, u32, u8 } from '@vmplanes/binary';

const SPEC = 'ACPI 6.5, 5.2.12';
/** @spec ACPI 6.5, 5.2.12 */
const Madt = struct('Madt', SPEC, 44, {
  signature: [0, ascii(4)], length: [4, u32], revision: [8, u8], checksum: [9, u8, 'makes the sum of all bytes zero'], oemId: [10, ascii(6)], oemTableId: [16, ascii(8)], oemRevision: [24, u32], creatorId: [28, ascii(4)],
  creatorRevision: [32, u32], localApic: [36, u32, 'physical address'], flags: [40, u32],
});
/** @spec ACPI 6.5, 5.2.12.2 */
const LocalApic = struct('LocalApic', SPEC, 8, { type: [0, u8], length: [1, u8], processor: [2, u8], id: [3, u8], flags: [4, u32, 'bit 0: enabled'] });
/** @spec ACPI 6.5, 5.2.12.12 */
const LocalX2Apic = struct('LocalX2Apic', SPEC, 16, { type: [0, u8], length: [1, u8], reserved2: [2, bytes(2)], id: [4, u32], flags: [8, u32], processor: [12, u32] });

const REVISION = 6;
const LOCAL_APIC = 0xfee0_0000;
const ENABLED = 1;
/** Identifiers from here on need the longer entry. */
const FIRST_LONG_ID = 0xff;


/** The ACPI table of processors. @param apicIds - all enabled. @spec ACPI 6.5, 5.2.12 */
export function madt(apicIds: readonly number[]): Uint8Array {
  const isLong = (id: number): boolean => id >= FIRST_LONG_ID;
  const length = apicIds.reduce((sum, id) => sum + (isLong(id) ? LocalX2Apic.size : LocalApic.size), Madt.size);
  const table = new Uint8Array(length);
  const view = new DataView(table.buffer);
  Madt.write(view, 0, { signature: 'APIC', length, revision: REVISION, checksum: 0, oemId: 'VMPLNS', oemTableId: 'VMPLANES', oemRevision: 1, creatorId: 'VMPL', creatorRevision: 1, localApic: LOCAL_APIC, flags: 0 });
  let at = Madt.size;
  apicIds.forEach((id, processor) => {
    if (isLong(id)) LocalX2Apic.write(view, at, { type: 9, length: LocalX2Apic.size, id, flags: ENABLED, processor });
    else LocalApic.write(view, at, { type: 0, length: LocalApic.size, processor, id, flags: ENABLED });
    at += isLong(id) ? LocalX2Apic.size : LocalApic.size;
  });
  view.setUint8(Madt.at.checksum, -table.reduce((sum, byte) => sum + byte, 0) & 0xff);
  return table;
}
