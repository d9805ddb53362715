//! Matrix products through cuBLASLt: row-major ones as the column-major products of the transposes, each shape with an
//! algorithm chosen once, nothing allocated afterwards.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};

use cudarc::cublaslt::sys::{self as lt, cublasStatus_t, cudaDataType_t};
use cudarc::driver::sys::{self, CUstream};

use super::memory::allocate;
use crate::engine::Precision;
use crate::engine::cuda::driver::{Address, DriverError, Form, Product};

mod self_check;

/// What an algorithm may use: NVIDIA's advice for sm_90 and later.
const WORKSPACE: usize = 32 << 20;
/// What operands are aligned to at least, bytes; where one is not, the product is not the library's.
const ALIGNMENT: u32 = 16;

/// cuBLASLt on one stream.
pub struct Blas {
    handle: lt::cublasLtHandle_t,
    workspace: Address,
    stream: CUstream,
    /// None: the library has no algorithm for this product.
    plans: HashMap<Product, Option<Plan>>,
}

/// A product's descriptors and algorithm. The library's "A" is our B and its "B" our A.
struct Plan {
    description: Description,
    b: Layout,
    a: Layout,
    c: Layout,
    algorithm: lt::cublasLtMatmulAlgo_t,
}

impl Blas {
    /// Opens the library, which must be present, in the current context and compares one small product of each kind
    /// with the host's. The error says why the library is not to be used.
    pub fn open(stream: CUstream) -> Result<Blas, String> {
        let workspace = allocate(WORKSPACE).map_err(|error| error.to_string())?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: writes one handle.
        let status = unsafe { lt::cublasLtCreate(&mut handle) };
        if status != cublasStatus_t::CUBLAS_STATUS_SUCCESS {
            // SAFETY: just allocated.
            unsafe { sys::cuMemFree_v2(workspace) };
            return Err(failed("cublasLtCreate", status).to_string());
        }
        let mut blas = Blas { handle, workspace, stream, plans: HashMap::new() };
        self_check::run(&mut blas)?;
        Ok(blas)
    }

    /// Enqueues C = A B; false where the library does not serve it.
    pub fn product(
        &mut self,
        product: &Product,
        a: Address,
        b: Address,
        c: Address,
    ) -> Result<bool, DriverError> {
        if !(a | b | c).is_multiple_of(u64::from(ALIGNMENT)) {
            return Ok(false);
        }
        if !self.plans.contains_key(product) {
            let plan = self.plan(product)?;
            self.plans.insert(*product, plan);
        }
        let Some(Some(plan)) = self.plans.get(product) else { return Ok(false) };
        let (one, zero) = (1f32, 0f32);
        // SAFETY: descriptors and algorithm belong together; the operands are the caller's, sized as the product says;
        // C is read nowhere, because beta is 0.
        let status = unsafe {
            lt::cublasLtMatmul(
                self.handle,
                plan.description.0,
                (&raw const one).cast(),
                b as *const c_void,
                plan.b.0,
                a as *const c_void,
                plan.a.0,
                (&raw const zero).cast(),
                c as *const c_void,
                plan.c.0,
                c as *mut c_void,
                plan.c.0,
                &plan.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE,
                self.stream.cast(),
            )
        };
        if unserved(status) {
            self.plans.insert(*product, None);
            return Ok(false);
        }
        check("cublasLtMatmul", status)?;
        Ok(true)
    }

    /// Makes descriptors and asks for an algorithm; touches neither the stream nor device memory.
    fn plan(&self, product: &Product) -> Result<Option<Plan>, DriverError> {
        let Product { form, precision, c_float, m, n, k, lda, ldb, ldc } = *product;
        let of_inputs = data_type(precision);
        let of_c = if c_float { cudaDataType_t::CUDA_R_32F } else { of_inputs };
        // A row-major [r, c] is a column-major [c, r]. We want C^T [n, m] = op(B) op(A), op(B) [n, k], op(A) [k, m].
        let ((b_rows, b_columns, b_transposed), (a_rows, a_columns, a_transposed)) = match form {
            Form::Nt => ((k, n, true), (k, m, false)),
            Form::Nn => ((n, k, false), (k, m, false)),
            Form::Tn => ((n, k, false), (m, k, true)),
        };
        let description = Description::new(b_transposed, a_transposed)?;
        let b = Layout::new(of_inputs, b_rows, b_columns, ldb)?;
        let a = Layout::new(of_inputs, a_rows, a_columns, lda)?;
        let c = Layout::new(of_c, n, m, ldc)?;
        let preference = Preference::new()?;
        let mut found = std::mem::MaybeUninit::<lt::cublasLtMatmulHeuristicResult_t>::zeroed();
        let mut count = 0;
        // SAFETY: room for the one result that is asked for.
        let status = unsafe {
            lt::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                description.0,
                b.0,
                a.0,
                c.0,
                c.0,
                preference.0,
                1,
                found.as_mut_ptr(),
                &mut count,
            )
        };
        if unserved(status) || (status == cublasStatus_t::CUBLAS_STATUS_SUCCESS && count == 0) {
            return Ok(None);
        }
        check("cublasLtMatmulAlgoGetHeuristic", status)?;
        // SAFETY: count is 1, so it was written; all-zero is a valid value besides (status 0 is success).
        let found = unsafe { found.assume_init() };
        if found.state != cublasStatus_t::CUBLAS_STATUS_SUCCESS || found.workspaceSize > WORKSPACE {
            return Ok(None);
        }
        Ok(Some(Plan { description, b, a, c, algorithm: found.algo }))
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made in `open`; the driver has waited for the stream and made the context current.
        unsafe {
            lt::cublasLtDestroy(self.handle);
            sys::cuMemFree_v2(self.workspace);
        }
    }
}

fn data_type(precision: Precision) -> cudaDataType_t {
    match precision {
        Precision::F32 => cudaDataType_t::CUDA_R_32F,
        Precision::Bf16 => cudaDataType_t::CUDA_R_16BF,
        Precision::F16 => cudaDataType_t::CUDA_R_16F,
    }
}

/// What is computed: float sums of untouched (not TF32) inputs.
struct Description(lt::cublasLtMatmulDesc_t);

impl Description {
    fn new(first_transposed: bool, second_transposed: bool) -> Result<Description, DriverError> {
        let compute = lt::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let mut description = std::ptr::null_mut();
        // SAFETY: writes one handle.
        check("cublasLtMatmulDescCreate", unsafe {
            lt::cublasLtMatmulDescCreate(&mut description, compute, cudaDataType_t::CUDA_R_32F)
        })?;
        let description = Description(description);
        use lt::cublasLtMatmulDescAttributes_t::{CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB};
        for (attribute, transposed) in [
            (CUBLASLT_MATMUL_DESC_TRANSA, first_transposed),
            (CUBLASLT_MATMUL_DESC_TRANSB, second_transposed),
        ] {
            // CUBLAS_OP_N = 0, CUBLAS_OP_T = 1.
            let operation = i32::from(transposed);
            // SAFETY: the attribute is a 32-bit integer, copied by the call.
            check("cublasLtMatmulDescSetAttribute", unsafe {
                lt::cublasLtMatmulDescSetAttribute(
                    description.0,
                    attribute,
                    (&raw const operation).cast(),
                    size_of_val(&operation),
                )
            })?;
        }
        Ok(description)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: made above.
        unsafe { lt::cublasLtMatmulDescDestroy(self.0) };
    }
}

/// A column-major matrix.
struct Layout(lt::cublasLtMatrixLayout_t);

impl Layout {
    fn new(of: cudaDataType_t, rows: u32, columns: u32, leading: u32) -> Result<Layout, DriverError> {
        let mut layout = std::ptr::null_mut();
        // SAFETY: writes one handle.
        check("cublasLtMatrixLayoutCreate", unsafe {
            lt::cublasLtMatrixLayoutCreate(&mut layout, of, rows.into(), columns.into(), leading.into())
        })?;
        Ok(Layout(layout))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made above.
        unsafe { lt::cublasLtMatrixLayoutDestroy(self.0) };
    }
}

/// What an algorithm may use.
struct Preference(lt::cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Preference, DriverError> {
        let mut preference = std::ptr::null_mut();
        // SAFETY: writes one handle.
        check("cublasLtMatmulPreferenceCreate", unsafe {
            lt::cublasLtMatmulPreferenceCreate(&mut preference)
        })?;
        let preference = Preference(preference);
        use lt::cublasLtMatmulPreferenceAttributes_t::*;
        preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE as u64)?;
        // A sum that is split over blocks only through the workspace and in the compute type: in place it would be
        // rounded to C's type after every part, and its order is nothing that NVIDIA promises.
        let reduction = lt::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction)?;
        for attribute in [
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            preference.set(attribute, ALIGNMENT)?;
        }
        Ok(preference)
    }

    fn set<T: bytemuck::Pod>(
        &self,
        attribute: lt::cublasLtMatmulPreferenceAttributes_t,
        value: T,
    ) -> Result<(), DriverError> {
        // SAFETY: of the type that the attribute has (the library checks the size), copied by the call.
        check("cublasLtMatmulPreferenceSetAttribute", unsafe {
            lt::cublasLtMatmulPreferenceSetAttribute(
                self.0,
                attribute,
                (&raw const value).cast(),
                size_of::<T>(),
            )
        })
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made above.
        unsafe { lt::cublasLtMatmulPreferenceDestroy(self.0) };
    }
}

/// Whether the library says that it has nothing for such a product, rather than that something broke.
fn unserved(status: cublasStatus_t) -> bool {
    use cublasStatus_t::*;
    matches!(status, CUBLAS_STATUS_NOT_SUPPORTED | CUBLAS_STATUS_INVALID_VALUE | CUBLAS_STATUS_ARCH_MISMATCH)
}

fn check(call: &str, status: cublasStatus_t) -> Result<(), DriverError> {
    if status == cublasStatus_t::CUBLAS_STATUS_SUCCESS { Ok(()) } else { Err(failed(call, status)) }
}

fn failed(call: &str, status: cublasStatus_t) -> DriverError {
    // SAFETY: gives a constant C string.
    let name = unsafe { lt::cublasLtGetStatusName(status) };
    let meaning = if name.is_null() {
        format!("status {}", status as u32)
    } else {
        // SAFETY: not null, NUL-terminated, never freed.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    };
    DriverError::Failed { call: call.into(), meaning }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::driver::real::library::blas_version;

    /// Needs the library and no device: it must know every attribute by the size that it is given.
    #[test]
    fn the_library_takes_our_descriptions() {
        let Ok(version) = blas_version() else { return };
        assert!(version.split('.').count() == 3 && !version.starts_with('0'), "{version}");
        Description::new(true, false).unwrap();
        Preference::new().unwrap();
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            Layout::new(data_type(precision), 40, 24, 48).unwrap();
        }
        let preference = Preference::new().unwrap();
        let attribute = lt::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        assert!(preference.set(attribute, 1u16).is_err());
    }
}
