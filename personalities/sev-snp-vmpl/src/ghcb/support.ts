import { GHCB_MSR_ROWS, type GhcbMsrRow, HYPERVISOR_FEATURES, NAE_HYPERVISOR_CODES, NAE_ROWS, GhcbUsage, TERMINATION_REASONS } from '@vmplanes/abi-sev-snp';
import { hex } from '@vmplanes/binary';
import type { SupportRow } from '@vmplanes/engine';
import { eventBindings } from './events.ts';
import { msrBindings } from './msr-protocol.ts';

const row = (kind: string, name: string, code: string, spec: string, why: string | null, note = ''): SupportRow => ({ kind, name, code, spec, support: why === null ? 'yes' : 'no', ...(why === null && note === '' ? {} : { note: why ?? note }) });

const served = new Set([...eventBindings, ...msrBindings].filter((b) => b.run !== null).map((b) => b.row));
/** Codes that are no requests are served when nothing happens; a request without behaviour is not. */
const msrRow = (r: GhcbMsrRow): SupportRow => row('ghcb-msr', r.name, hex(r.code), r.spec, r.role !== 'request' || served.has(r) ? null : r.note, r.note);

/** What of the GHCB protocol is served, printed from the tables that the behaviour is bound to. */
export const ghcbSupport: readonly SupportRow[] = [
  ...GHCB_MSR_ROWS.map(msrRow),
  ...NAE_ROWS.map((r) => row('nae', r.name, hex(r.code), r.spec, r.refused, r.note)),
  row('nae', 'codes of hypervisors', `from ${hex(NAE_HYPERVISOR_CODES)}`, 'GHCB 4.1', 'reserved: no host of this kind defines any'),
  row('ghcb-usage', 'standard', String(GhcbUsage.Standard), 'GHCB 2.6', null),
  row('ghcb-usage', 'Hyper-V hypercall', String(GhcbUsage.HypervHypercall), 'openvmm vm/x86/x86defs/src/snp.rs', null, 'with the option hypervUsages and the personality hyperv-vtl before this one'),
  row('ghcb-usage', 'Hyper-V VTL return', String(GhcbUsage.HypervVtlReturn), 'openvmm vm/x86/x86defs/src/snp.rs', 'optional: planes are VMPLs here, which Run VMPL switches'),
  ...HYPERVISOR_FEATURES.map(({ bit, name, why }) => row('hypervisor-feature', name, `bit ${bit}`, 'GHCB 2.3.1', why)),
  ...TERMINATION_REASONS.map(({ set, code, by, name, spec }) => row('termination', `${by}: ${name}`, `set ${set} code ${code}`, spec, null)),
];
