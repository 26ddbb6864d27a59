import type { Bits } from '@vmplanes/binary';
import { describe, expect, it } from 'vitest';
import * as abi from './index.ts';

/** Width in bits, then each field: lowest bit, and bits where there are more than one. By hand, from APM vol. 2 and 3, the GHCB specification and the SNP ABI. */
const published: readonly (readonly [layout: Bits, width: number, fields: string])[] = [
  [abi.EncryptedMemoryEax, 32, 'sme 0|sev 1|pageFlushMsr 2|sevEs 3|sevSnp 4|vmpl 5|rmpquery 6|vmplSss 7|secureTsc 8|tscAuxVirtualization 9|hwEncryptionCoherency 10|only64BitHost 11|restrictedInjection 12|alternateInjection 13|debugSwap 14|preventHostIbs 15|vte 16|vmgexitParam 17|virtualTomMsr 18|ibsVirtualization 19|rmpread 21|guestInterceptControl 22|segmentedRmp 23|vmsaRegProt 24|secureAvic 26|allowedSevFeatures 27|svsmPresent 28|nestedSnpMsr 29|inUseWriteAllowed 30'],
  [abi.EncryptedMemoryEbx, 32, 'cBitPosition 0:6|physicalReduction 6:6|vmplCount 12:4|coherencySfwNo 31'],
  [abi.DoorbellFlags, 8, 'nmi 0|machineCheck 1|noFurtherSignal 7'],
  [abi.DoorbellVmpl.fields.status[1] as Bits, 32, 'vector 0:8|nmi 8|machineCheck 9|level 10|multipleVectors 14|ipiRequested 27|vector31 31'],
  [abi.ReportRequestFlags, 32, 'keySelect 0:2'],
  [abi.RootKeySelect, 32, 'vmrk 0|keySelect 1:2'],
  [abi.GuestFieldSelect, 64, 'policy 0|imageId 1|familyId 2|measurement 3|guestSvn 4|tcbVersion 5|launchMitVector 6'],
  [abi.HypervisorFeatures, 64, 'snp 0|snpApCreation 1|restrictedInjection 2|restrictedInjectionTimer 3|apicIdList 4|multipleVmpls 5|sevEsPageStateChange 6|sevTio 7|extendedInterrupts 9'],
  [abi.GhcbMsrSevInfo, 64, 'code 0:12|cBit 24:8|minimum 32:16|maximum 48:16'],
  [abi.GhcbMsrCpuidRequest, 64, 'code 0:12|register 30:2|function 32:32'],
  [abi.GhcbMsrCpuidResponse, 64, 'code 0:12|register 30:2|value 32:32'],
  [abi.GhcbMsrApResetHold, 64, 'code 0:12|result 12:52'],
  [abi.GhcbMsrPage, 64, 'code 0:12|page 12:52'],
  [abi.GhcbMsrPageStateChange, 64, 'code 0:12|page 12:40|operation 52:4'],
  [abi.GhcbMsrError, 64, 'code 0:12|error 32:32'],
  [abi.GhcbMsrRunVmpl, 64, 'code 0:12|vmpl 32:8'],
  [abi.GhcbMsrFeatures, 64, 'code 0:12|features 12:52'],
  [abi.GhcbMsrTermination, 64, 'code 0:12|reasonSet 12:4|reasonCode 16:8'],
  [abi.NaeIoInfo, 32, 'isIn 0|isString 2|isRep 3|data8 4|data16 5|data32 6|address16 7|address32 8|address64 9|segment 10:3|port 16:16'],
  [abi.NaeApCreationInfo, 64, 'request 0:16|vmpl 16:4|apicId 32:32'],
  [abi.NaeTermination, 64, 'reasonSet 0:4|reasonCode 4:8'],
  [abi.GuestPolicy, 64, 'abiMinor 0:8|abiMajor 8:8|smt 16|mustBeOne 17|migrateMa 18|debug 19|singleSocket 20|cxlAllow 21|memAes256Xts 22|raplDisabled 23|ciphertextHiding 24|pageSwapDisable 25'],
  [abi.SevPolicy, 32, 'noDebug 0|noKeySharing 1|es 2|noSend 3|domain 4|sev 5|apiMajor 16:8|apiMinor 24:8'],
  [abi.PscEntry, 64, 'curPage 0:12|page 12:40|operation 52:4|large 56|reserved 57:7'],
  [abi.PlatformInfo, 64, 'smtEnabled 0|tsmeEnabled 1|eccEnabled 2|raplDisabled 3|ciphertextHiding 4|aliasCheckComplete 5|tio 7'],
  [abi.KeyInfo, 32, 'authorKeyEn 0|maskChipKey 1|signingKey 2:3'],
  [abi.RmpAdjustOperand, 32, 'targetVmpl 0:8|targetPermMask 8:8|vmsa 16|reserved 17:15'],
  [abi.RmpEntryLow, 64, 'assigned 0|pagesize 1|immutable 2|gpn 12:39|asid 51:10|vmsa 61|validated 62'],
  [abi.NpfError, 64, 'present 0|write 1|user 2|rsvd 3|fetch 4|shadowStack 6|rmp 31|finalGpa 32|guestTable 33|enc 34|sizem 35|vmpl 36|sss 37|notRestartable 63'],
  [abi.VintrCtrl, 64, 'tpr 0:8|irq 8|gif 9|interruptShadow 10|nmi 11|nmiMask 12|priority 16:4|ignoreTpr 20|nmiEnable 26|vector 32:8|busy 63'],
  [abi.VmsaEvent, 64, 'vector 0:8|type 8:3|errorCodeValid 11|valid 31|errorCode 32:32'],
];
/** A field as it is published above: its lowest bit and, where it has more than one, its bits. */
const place = (mask: bigint, low: number): string => {
  const width = (mask >> BigInt(low)).toString(2).length;
  return width === 1 ? `${low}` : `${low}:${width}`;
};

describe('bits', () => {
  it.each(published.map((row) => [row[0].name, ...row] as const))('%s', (_name, layout, width, fields) => {
    expect(layout.width).toBe(width);
    expect(Object.keys(layout.mask).map((field) => `${field} ${place(BigInt(layout.mask[field]!), layout.shift[field]!)}`)).toEqual(fields.split('|'));
  });
  it('are all here', () => {
    const declared = Object.values(abi).flatMap((value) => (typeof value === 'object' && 'kind' in value && value.kind === 'bits' ? [value.name] : []));
    expect(declared.filter((name) => !published.some(([layout]) => layout.name === name))).toEqual([]);
  });
});

describe('structures that the firmware and the host share', () => {
  it('RMPUPDATE takes 16 bytes', () => expect([abi.RmpUpdateEntry.size, abi.RmpUpdateEntry.at]).toEqual([16, { gpa: 0, assigned: 8, pagesize: 9, immutable: 10, reserved: 11, asid: 12 }]));
  it('a list of page state changes begins with 8 bytes', () => expect([abi.PscHeader.size, abi.PscHeader.at]).toEqual([8, { curEntry: 0, endEntry: 2, reserved: 4 }]));
  it('a hypercall page of Hyper-V ends as a GHCB does', () =>
    expect([abi.GhcbHypercallPage.size, abi.GhcbHypercallPage.at]).toEqual([4096, { data: 0, outputGpa: 0xfe8, control: 0xff0, reservedFf8: 0xff8, protocolVersion: 0xffa, ghcbUsage: 0xffc }]));
  it('a CPUID page is a count and 64 functions', () => expect([abi.CpuidPage.size, abi.CpuidPage.at]).toEqual([4096, { count: 0, reserved004: 4, functions: 16, reservedC10: 0xc10 }]));
});

describe('values of a save area', () => {
  it('name kinds of events', () => expect(abi.VmsaEventType).toEqual({ External: 0, Nmi: 2, Exception: 3, Software: 4 }));
  it('are parked without bit 12 of EFER', () => expect(abi.EFER_SVME).toBe(4096));

  const segment = (selector: number, attributes: number, limit: number, base: bigint) => ({ selector, attributes, limit, base });
  const tables = { gdtr: segment(0, 0, 0xffff, 0n), idtr: segment(0, 0, 0xffff, 0n) };
  const fixed = { ...tables, dr6: 0xffff_0ff0n, dr7: 0x400n, rflags: 2n, pat: 0x0007_0406_0007_0406n, xcr0: 1n };
  const data = (of: ReturnType<typeof segment>) => ({ es: of, ss: of, ds: of, fs: of, gs: of });

  it('KVM, another processor', () =>
    expect(abi.kvmVmsa({ eip: 0x1234_ffff, vmpl: 1, sevFeatures: 0x31n }, 0xa2_0f11)).toEqual({
      ...fixed, ...data(segment(0, 0x93, 0xffff, 0n)), cs: segment(0xf000, 0x9b, 0xffff, 0x1234_0000n), ldtr: segment(0, 0x82, 0xffff, 0n), tr: segment(0, 0x8b, 0xffff, 0n), vmpl: 1, efer: 0x1000n, cr0: 0x10n, cr4: 0x40n,
      rip: 0xffffn, rdx: 0xa2_0f11n, mxcsr: 0x1f80, x87Fcw: 0x37f, sevFeatures: 0x31n,
    }));
  it('Linux, another processor', () =>
    expect(abi.linuxApVmsa({ vmpl: 2, sevFeatures: 0x21n, start: 0x9_afff, mce: false })).toEqual({
      ...fixed, ...data(segment(0, 0x92, 0xffff, 0n)), cs: segment(0x9a00, 0x9a, 0xffff, 0x9_a000n), ldtr: segment(0, 0x82, 0xffff, 0n), tr: segment(0, 0x83, 0xffff, 0n), vmpl: 2, efer: 0x1000n, cr0: 0x6000_0010n, cr4: 0n,
      rip: 0xfffn, mxcsr: 0x1f80, x87Fcw: 0x40, x87Ftw: 0x5555, sevFeatures: 0x21n,
    }));
  it('EDK2, another processor: NW and CD of the boot processor, nothing else of its CR0', () => {
    const start = { vmpl: 0, sevFeatures: 1n, start: 0x8_7000, mce: true };
    expect(abi.edk2ApVmsa(start, 0xffff_ffef | 0)).toMatchObject({ cr0: 0x6000_0010n, cr4: 0x40n, ldtr: segment(0, 0x83, 0xffff, 0n), tr: segment(0, 0, 0xffff, 0n) });
    expect(abi.edk2ApVmsa(start)).toMatchObject({ cr0: 0x10n });
  });
  it('COCONUT, its guest', () =>
    expect(abi.coconutGuestVmsa({ eip: 0x0080_ffff, vmpl: 2, sevFeatures: 0x11n })).toEqual({
      ...fixed, ...data(segment(0, 0x93, 0xffff, 0n)), cs: segment(0xf000, 0x9b, 0xffff, 0x80_0000n), ldtr: segment(0, 0x82, 0xffff, 0n), tr: segment(0, 0x8b, 0xffff, 0n), vmpl: 2, cr0: 0x6000_0010n, rip: 0xffffn,
      mxcsr: 0x1f80, x87Fcw: 0x40, x87Ftw: 0x5555, sevFeatures: 0x11n,
    }));
  it('GCE', () => expect(abi.gceVmsa({ eip: 0xffff_fff0, vmpl: 0, sevFeatures: 1n })).toMatchObject({ pat: 0x7_0106n, mxcsr: 0, x87Fcw: 0, rdx: 0x600n }));
  it('EC2, of the data segments SS alone, and CS at the reset vector alone', () => {
    const common = { es: segment(0, 0x93, 0xffff, 0n), ss: segment(0, 0x92, 0xffff, 0n), ds: segment(0, 0x93, 0xffff, 0n), fs: segment(0, 0x93, 0xffff, 0n), gs: segment(0, 0x93, 0xffff, 0n), tr: segment(0, 0x83, 0xffff, 0n), mxcsr: 0, x87Fcw: 0 };
    expect(abi.ec2Vmsa({ eip: 0xffff_fff0, vmpl: 0, sevFeatures: 1n })).toMatchObject({ ...common, cs: segment(0xf000, 0x9a, 0xffff, 0xffff_0000n) });
    expect(abi.ec2Vmsa({ eip: 0x80_b004, vmpl: 0, sevFeatures: 1n })).toMatchObject({ ...common, cs: segment(0xf000, 0x9b, 0xffff, 0x80_0000n) });
  });
  it('an SVSM image: GS is that of a reset', () => {
    const flat = segment(0x10, 0xc93, 0xffff_ffff, 0n);
    const values = abi.svsmVmsa({ eip: 0x80_0000, vmpl: 0, sevFeatures: 1n }, 5);
    expect(values).toMatchObject({ es: flat, ss: flat, ds: flat, fs: flat, gs: segment(0, 0x93, 0xffff, 0n), cs: segment(8, 0xc9b, 0xffff_ffff, 0n), cr0: 0x11n, rip: 0x80_0000n, rdx: 5n });
  });
  it('begin a boot processor at FFFFFFF0h', () => expect(abi.BSP_EIP).toBe(2 ** 32 - 16));
});
