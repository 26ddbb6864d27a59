import { bits, struct, u16, u32 } from '@vmplanes/binary';
import { call, type SvsmCall } from '../call.ts';
import { SvsmProtocol } from '../protocols.ts';

const { Core } = SvsmProtocol;

/** Head of a PVALIDATE list; entries of 8 bytes follow in the same page. @spec SVSM 1.00, SVSM_CORE_PVALIDATE */
export const SvsmPvalidateList = struct('SvsmPvalidateList', 'SVSM 1.00, SVSM_CORE_PVALIDATE', 8, {
  entries: [0, u16, 'number of entries'],
  next: [2, u16, 'index of the next entry to process; the provider moves it'],
  reserved4: [4, u32, 'not checked'],
});

/** One entry of a PVALIDATE list. @spec SVSM 1.00, SVSM_CORE_PVALIDATE */
export const SvsmPvalidateEntry = bits('SvsmPvalidateEntry', 'SVSM 1.00, SVSM_CORE_PVALIDATE', 64, {
  pageSize: [0, 2, '0: 4 KiB, 1: 2 MiB'],
  validate: [2, '1: validate, 0: rescind'],
  ignoreUnchanged: [3, 'a page in that state already is no error'],
  reserved4: [4, 8],
  page: [12, 52, 'page number'],
});

/** Bytes of an entry of a PVALIDATE list. */
export const SVSM_PVALIDATE_ENTRY = 8;

/** Argument of SVSM_CORE_QUERY_PROTOCOL: RCX in. @spec SVSM 1.00, SVSM_CORE_QUERY_PROTOCOL */
export const SvsmProtocolQuery = bits('SvsmProtocolQuery', 'SVSM 1.00, SVSM_CORE_QUERY_PROTOCOL', 64, { version: [0, 32, 'version asked for'], protocol: [32, 32] });
/** Answer of SVSM_CORE_QUERY_PROTOCOL: RCX out; 0 when the version is not offered. @spec SVSM 1.00, SVSM_CORE_QUERY_PROTOCOL */
export const SvsmProtocolVersions = bits('SvsmProtocolVersions', 'SVSM 1.00, SVSM_CORE_QUERY_PROTOCOL', 64, { min: [0, 32], max: [32, 32] });

const addresses = ['InvalidParameter', 'InvalidAddress'] as const;

/** Calls of the core protocol. @spec SVSM 1.00, core protocol */
export const CoreCall = {
  RemapCa: call('SVSM_CORE_REMAP_CA', Core, { number: 0, spec: 'SVSM 1.00, SVSM_CORE_REMAP_CA', input: { rcx: 'GPA of the new calling area' }, results: addresses }),
  Pvalidate: call('SVSM_CORE_PVALIDATE', Core, {
    number: 1, spec: 'SVSM 1.00, SVSM_CORE_PVALIDATE', input: { rcx: 'GPA of the list' }, structure: SvsmPvalidateList,
    results: [...addresses, 'FailInput', 'FailPermission', 'FailSizeMismatch', 'Unchanged'],
  }),
  CreateVcpu: call('SVSM_CORE_CREATE_VCPU', Core, {
    number: 2, spec: 'SVSM 1.00, SVSM_CORE_CREATE_VCPU', input: { rcx: 'GPA of the VMSA', rdx: 'GPA of the calling area', r8: 'APIC id in bits 31:0' },
    results: ['InvalidAddress', 'InvalidParameter', 'FailInput', 'FailPermission', 'FailSizeMismatch'],
  }),
  DeleteVcpu: call('SVSM_CORE_DELETE_VCPU', Core, { number: 3, spec: 'SVSM 1.00, SVSM_CORE_DELETE_VCPU', input: { rcx: 'GPA of the VMSA' }, results: addresses }),
  DepositMem: call('SVSM_CORE_DEPOSIT_MEM', Core, { number: 4, spec: 'SVSM 1.00, SVSM_CORE_DEPOSIT_MEM', unsupported: 'the provider needs no memory of the guest; no implementation serves it and its structure is not public' }),
  WithdrawMem: call('SVSM_CORE_WITHDRAW_MEM', Core, { number: 5, spec: 'SVSM 1.00, SVSM_CORE_WITHDRAW_MEM', unsupported: 'nothing was deposited; no implementation serves it and its structure is not public' }),
  QueryProtocol: call('SVSM_CORE_QUERY_PROTOCOL', Core, { number: 6, spec: 'SVSM 1.00, SVSM_CORE_QUERY_PROTOCOL', input: { rcx: 'SvsmProtocolQuery' }, output: { rcx: 'SvsmProtocolVersions, or 0' } }),
  ConfigureVtom: call('SVSM_CORE_CONFIGURE_VTOM', Core, {
    number: 7, spec: 'SVSM 1.00, SVSM_CORE_CONFIGURE_VTOM', input: { rcx: 'bit 0: query; otherwise the setting' }, output: { rcx: 'query: 0, not supported' }, results: ['InvalidRequest'],
  }),
} as const satisfies Readonly<Record<string, SvsmCall>>;
