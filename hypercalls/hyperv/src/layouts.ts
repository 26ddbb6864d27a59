import type { Described } from '@vmplanes/binary';
import * as assistPage from './assist-page.ts';
import * as callLayouts from './call-layouts.ts';
import * as context from './context.ts';
import * as cpuid from './cpuid.ts';
import * as hypercall from './hypercall.ts';
import * as messages from './messages.ts';
import * as msrs from './msrs.ts';
import * as pending from './pending.ts';
import * as privileges from './privileges.ts';
import * as synic from './synic.ts';
import * as tscPage from './tsc-page.ts';
import * as vsm from './vsm.ts';
import * as vtl from './vtl.ts';

const isLayout = (value: unknown): value is Described => typeof value === 'object' && value !== null && 'kind' in value && 'read' in value;

/** Every layout of the interface, for reference pages. */
export const LAYOUTS: readonly Described[] = [assistPage, callLayouts, context, cpuid, hypercall, messages, msrs, pending, privileges, synic, tscPage, vsm, vtl].flatMap((chapter) =>
  Object.values<unknown>(chapter).filter(isLayout));
